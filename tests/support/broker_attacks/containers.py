"""Containers that must not come to be: each differs in one thing from one that is allowed."""

from __future__ import annotations

from .attack import Attack, call, create, host, variants

_MOUNTS, _SPACES, _RIGHTS, _DEVICES, _LIMITS, _IMAGES = (
    "mounts", "namespaces", "privileges", "devices and runtimes", "limits", "images and builds",
)  # fmt: skip
_MIB = 2**20


def _bind(name: str, *binds: str, real: bool = True) -> Attack:
    return host(_MOUNTS, name, Binds=list(binds), real=real)


def _mount(name: str, **mount: object) -> Attack:
    return host(_MOUNTS, name, Mounts=[{"Target": "/workspace/x", **mount}])


_SOURCES = {
    "the machine": "/", "its /etc": "/etc", "its passwords": "/etc/shadow", "home of root": "/root", "/proc": "/proc",
    "/sys": "/sys", "/dev": "/dev", "a disk": "/dev/null", "cgroups": "/sys/fs/cgroup", "/run": "/run",
    "the engine's socket": "/var/run/docker.sock", "the engine's other socket": "/run/docker.sock",
    "the engine's files": "/var/lib/docker", "root of the project": "$root", "all secrets": "$root/secrets",
    "the bot's own secrets": "$root/secrets/$bot", "sockets of the bot": "$root/run/$bot", "the locks": "$root/locks",
    "the audit": "$root/audit", "the other bot": "$root/bot_repos/victim",
    "state of the other bot": "$root/bot_repos/victim/state/workspace", "all bots": "$root/bot_repos",
    "the bot's directory": "$directory", "state itself": "$state", "state itself, with a slash": "$state/",
    "all of sandboxes": "$state/sandboxes", "agents' database": "$state/agents", "credentials": "$state/credentials",
    "the state's database": "$state/state", "approved tree": "$directory/approved", "Git of the approved tree":
    "$directory/approved/.git", "approved workspace": "$directory/approved/workspace", "configuration":
    "$directory/config", "repository": "$directory/origin.git", "sibling of state": "${state}2/workspace",
    "sibling of workspace": "$state/workspace2", "sibling of sandboxes": "$state/sandboxes2/x",
    "dots out of state": "$state/../config",
    "dots out of sandboxes": "$state/sandboxes/x/../../agents", "dots to the root": "$source/../../../../../../../etc",
    "dot inside": "$state/./sandboxes/x", "dots that come back": "$source/../attacked", "two slashes":
    "$state//sandboxes/x", "two slashes at the start": "/$source", "slash at the end": "$source/", "blank in front":
    " $source", "relative": "sandboxes/x", "relative with a dot": "./etc", "home": "~/x", "variable": "$$HOME",
    "comma": "$source,x", "line break": "$source\n", "control character": "$source\x01", "NUL": "$source\0/etc",
    "delete character": "$source\x7f", "another case": "/SRV/clawfactory/bot_repos/$bot/state/sandboxes/x",
    "full-width slash": "$state\uff0fsandboxes\uff0fx", "named volume": "evil", "volume of an uppercase name": "Evil1",
}  # fmt: skip
# These a raw engine refuses, too, or does not take for what they look like.
_NOT_EVEN_THERE = {"relative", "relative with a dot", "home", "variable", "blank in front"}
_TARGETS = {
    "/etc": "/etc", "root": "/", "/usr/bin": "/usr/bin", "/proc": "/proc", "/proc/sys": "/proc/sys", "/sys": "/sys",
    "/dev": "/dev", "/tmp": "/tmp", "/home": "/home/sandbox", "dots": "/workspace/../etc", "dot": "/workspace/./x",
    "prefix": "/workspacex", "prefix of agent": "/agents", "relative": "workspace", "two slashes": "/workspace//x",
    "slash at the end": "/workspace/x/", "control character": "/workspace/\x01", "line break": "/workspace/\nx",
}  # fmt: skip
_OPTIONS = (
    "shared",
    "rshared",
    "slave",
    "rslave",
    "private",
    "rprivate",
    "nocopy",
    "copy",
    "delegated",
    "cached",
    "consistent",
    "U",
    "O",
    "exec",
    "suid",
    "dev",
    "rw,ro",
    "rw,rshared",
    "RO",
    "bogus",
    ",",
    "ro,",
    " ro",
    "ro:rw",
)
_OPTIONS_REFUSED_EVERYWHERE = {
    "nocopy", "copy", "U", "O", "exec", "suid", "dev", "rw,ro", "RO", "bogus", ",", "ro,", " ro", "ro:rw",
}  # fmt: skip

_NESTED = [
    Attack(
        _MOUNTS,
        "workspace without the mounts in it",
        lambda scene: scene.creation({"HostConfig": {"Binds": ["$state/workspace:/workspace"]}}),
    ),
    Attack(
        _MOUNTS,
        "workspace without one of the mounts in it",
        lambda scene: scene.creation(scene.workspace(without="SOUL.md")),
    ),
    Attack(
        _MOUNTS,
        "approved file made writable",
        lambda scene: scene.creation(scene.workspace("$approved/SOUL.md:/workspace/SOUL.md:rw", without="SOUL.md")),
    ),
    Attack(
        _MOUNTS,
        "approved file replaced by an own one",
        lambda scene: scene.creation(scene.workspace("$source/x:/workspace/SOUL.md:z", without="SOUL.md")),
    ),
    Attack(
        _MOUNTS,
        "approved file mounted elsewhere instead",
        lambda scene: scene.creation(scene.workspace("$approved/SOUL.md:/workspace/SOUL.txt:ro", without="SOUL.md")),
    ),
    Attack(
        _MOUNTS,
        "approved file mounted at its name in another case",
        lambda scene: scene.creation(scene.workspace("$approved/SOUL.md:/workspace/soul.md:ro", without="SOUL.md")),
    ),
    Attack(
        _MOUNTS,
        "workspace at /agent without the mounts in it",
        lambda scene: scene.creation({"HostConfig": {"Binds": ["$source:/workspace", "$state/workspace:/agent"]}}),
    ),
    Attack(
        _MOUNTS,
        "workspace twice, the second time bare",
        lambda scene: scene.creation(scene.workspace("$state/workspace:/agent:z")),
    ),
    Attack(
        _MOUNTS,
        "target used twice",
        lambda scene: scene.creation(scene.workspace("$source:/workspace/SOUL.md:ro")),
        real=False,
    ),
    Attack(
        _MOUNTS,
        "own directory over an approved one",
        lambda scene: scene.creation(scene.workspace("$source/x:/workspace/skills/x:z")),
    ),
    Attack(
        _MOUNTS,
        "own files over the workspace's agents",
        lambda scene: scene.creation(scene.workspace("$source/x:/workspace/memory:z")),
    ),
]

MOUNTS = [
    *variants(
        (
            _bind(f"source: {name}", f"{source}:/workspace", real=name not in _NOT_EVEN_THERE)
            for name, source in _SOURCES.items()
        ),
        15,
    ),
    _bind("source of which only reading is wanted", "/etc:/workspace:ro"),
    *variants(
        (
            _bind(f"target: {name}", f"$source:{target}", real=target.startswith("/") and target not in {"/", "/tmp"})
            for name, target in _TARGETS.items()
        ),
        5,
    ),
    *variants(
        (
            _bind(f"option {option!r}", f"$source:/workspace:{option}", real=option not in _OPTIONS_REFUSED_EVERYWHERE)
            for option in _OPTIONS
        ),
        5,
    ),
    _bind("propagation of the whole machine", "/:/workspace:rslave"),
    _bind("target only", "/workspace"),
    _bind("nothing", "", real=False),
    _bind("colons only", ":::", real=False),
    _bind("empty source", ":/workspace", real=False),
    _bind("empty target", "$source:", real=False),
    _bind("approved file, writable", "$approved/SOUL.md:/workspace:z"),
    _bind("approved file beside it, writable", "$source:/workspace", "$approved/SOUL.md:/workspace/skills:rw"),
    _bind("place of an approved file, writable", "$state/workspace/SOUL.md:/workspace:z"),
    _bind("place of approved skills, writable", "$state/workspace/skills:/workspace:z"),
    _bind("target nested without need", "$source:/workspace", "$source/x:/workspace/deep/below"),
    *_NESTED,
    _mount("Mounts: the machine", Type="bind", Source="/"),
    _mount("Mounts: an allowed source", Type="bind", Source="$source"),
    _mount("Mounts: propagation", Type="bind", Source="/", BindOptions={"Propagation": "rslave"}),
    _mount("Mounts: volume", Type="volume", Source="evil"),
    _mount(
        "Mounts: volume of a disk",
        Type="volume",
        VolumeOptions={"DriverConfig": {"Name": "local", "Options": {"type": "none", "o": "bind", "device": "/etc"}}},
    ),
    _mount("Mounts: memory", Type="tmpfs", TmpfsOptions={"SizeBytes": 2**40}),
    host(_MOUNTS, "Mounts: of a kind that does not exist", Mounts=[{"Type": "evil", "Target": "/x"}], real=False),
    create(_MOUNTS, "Volumes: /etc", {"Volumes": {"/etc": {}}}),
    create(_MOUNTS, "Volumes: /workspace", {"Volumes": {"/workspace/x": {}}}),
    host(_MOUNTS, "VolumesFrom the gateway", VolumesFrom=["$gateway"]),
    host(_MOUNTS, "VolumesFrom the broker", VolumesFrom=["$broker:rw"]),
    host(_MOUNTS, "VolumesFrom the other bot", VolumesFrom=["$other_id"]),
    host(_MOUNTS, "VolumeDriver", VolumeDriver="local"),
    *variants(
        (
            host(_MOUNTS, f"Tmpfs over {target}", Tmpfs={target: ""}, real=target != "/workspace")
            for target in ("/etc", "/usr", "/workspace", "/workspace/skills", "/dev", "/tmp/../etc", "/tmp/x", "/tmp/")
        ),
        3,
    ),
    *variants(
        (
            host(_MOUNTS, f"Tmpfs with {option}", Tmpfs={"/tmp": option}, tamed=True)
            for option in ("suid", "dev", "size=100g", "uid=0", "mode=7777", "nr_inodes=0", "bind,source=/etc", "bogus")
        ),
        2,
    ),
    host(_MOUNTS, "StorageOpt", StorageOpt={"size": "100G"}, real=False),
    host(_MOUNTS, "ContainerIDFile", ContainerIDFile="/etc/cron.d/x"),
    *variants(
        (
            host(_MOUNTS, f"Binds as {value!r}", Binds=value, real=False)
            for value in ("/:/workspace", {"/": "/workspace"}, 1, [1], [["/:/workspace"]])
        ),
        1,
    ),
    host(_MOUNTS, "Binds with an empty entry", Binds=["$source:/workspace", None], real=False),
    host(_MOUNTS, "thousand binds", Binds=[f"$source:/workspace/skills{number}" for number in range(1000)]),
]

NAMESPACES = [
    *variants(
        (
            host(_SPACES, f"NetworkMode {mode}", NetworkMode=mode)
            for mode in (
                "host",
                "bridge",
                "default",
                "",
                "container:$gateway",
                "container:$broker",
                "container:$other_id",
                "container:$sandbox",
                "clawfactory-$bot-inside",
                "clawfactory-$bot-edge",
                "clawfactory-victim-inside",
                "None",
                "nat",
            )
        ),
        7,
    ),
    create(_SPACES, "second network", {"NetworkingConfig": {"EndpointsConfig": {"bridge": {}}}}),
    create(
        _SPACES,
        "none with options",
        {"NetworkingConfig": {"EndpointsConfig": {"none": {"IPAMConfig": {"IPv4Address": "10.213.0.9"}}}}},
        real=False,
    ),
    create(_SPACES, "NetworkDisabled off", {"NetworkDisabled": True}),
    create(_SPACES, "MacAddress", {"MacAddress": "02:42:ac:11:00:02"}, real=False),
    create(_SPACES, "Hostname of the gateway", {"Hostname": "$bot-gateway"}),
    create(_SPACES, "Domainname", {"Domainname": "example.com"}),
    create(_SPACES, "ExposedPorts", {"ExposedPorts": {"80/tcp": {}}}),
    host(_SPACES, "PidMode host", PidMode="host"),
    host(_SPACES, "PidMode of the gateway", PidMode="container:$gateway"),
    host(_SPACES, "PidMode of the broker", PidMode="container:$broker"),
    host(_SPACES, "IpcMode host", IpcMode="host"),
    host(_SPACES, "IpcMode shareable", IpcMode="shareable"),
    host(_SPACES, "IpcMode of the gateway", IpcMode="container:$gateway"),
    host(_SPACES, "UTSMode host", UTSMode="host"),
    host(_SPACES, "UsernsMode host", UsernsMode="host"),
    host(_SPACES, "CgroupnsMode host", CgroupnsMode="host"),
    host(_SPACES, "CgroupnsMode private", CgroupnsMode="private", tamed=True),
    host(_SPACES, "Links", Links=["$gateway:x"]),
    host(_SPACES, "ExtraHosts", ExtraHosts=["egress:10.0.0.1"]),
    host(_SPACES, "Dns", Dns=["8.8.8.8"]),
    host(_SPACES, "DnsOptions", DnsOptions=["ndots:1"]),
    host(_SPACES, "DnsSearch", DnsSearch=["example.com"]),
    host(_SPACES, "PortBindings", PortBindings={"22/tcp": [{"HostIp": "", "HostPort": "2222"}]}),
    host(_SPACES, "PublishAllPorts", PublishAllPorts=True),
    host(_SPACES, "Cgroup of the gateway", Cgroup="container:$gateway"),
]

PRIVILEGES = [
    host(_RIGHTS, "Privileged", Privileged=True),
    *variants(
        (host(_RIGHTS, f"Privileged as {value!r}", Privileged=value, real=False) for value in (1, "true", [True])), 1
    ),
    *variants(
        (
            host(_RIGHTS, f"CapAdd {name}", CapAdd=[name], real=name != "EVIL")
            for name in (
                "ALL",
                "SYS_ADMIN",
                "CAP_SYS_ADMIN",
                "sys_ptrace",
                "NET_RAW",
                "DAC_READ_SEARCH",
                "CHOWN",
                "EVIL",
            )
        ),
        2,
    ),
    host(_RIGHTS, "CapDrop of nothing", CapDrop=[], tamed=True),
    host(_RIGHTS, "CapDrop of null", CapDrop=None, tamed=True),
    host(_RIGHTS, "CapDrop of one", CapDrop=["NET_RAW"], tamed=True),
    host(_RIGHTS, "Capabilities", Capabilities=["ALL"]),
    *variants(
        (
            host(
                _RIGHTS,
                f"SecurityOpt {option}",
                SecurityOpt=[option],
                real=option not in {"evil", "systempaths=unconfined"},
            )
            for option in (
                "seccomp=unconfined",
                "seccomp:unconfined",
                "seccomp={}",
                "apparmor=unconfined",
                "systempaths=unconfined",
                "label=disable",
                "label=type:spc_t",
                "no-new-privileges:false",
                "no-new-privileges=false",
                "evil",
            )
        ),
        5,
    ),
    host(_RIGHTS, "SecurityOpt with one good and one bad", SecurityOpt=["no-new-privileges", "seccomp=unconfined"]),
    host(_RIGHTS, "SecurityOpt on and off", SecurityOpt=["no-new-privileges:true", "no-new-privileges:false"]),
    host(_RIGHTS, "SecurityOpt of nothing", SecurityOpt=[], tamed=True),
    host(_RIGHTS, "SecurityOpt of null", SecurityOpt=None, tamed=True),
    *variants(
        (
            create(_RIGHTS, f"User {user!r}", {"User": user}, tamed=True)
            for user in ("0", "0:0", "root", "root:root", "$uid:0", "0:$uid", "daemon", "1000", "4294967296", "")
        ),
        3,
    ),
    host(_RIGHTS, "GroupAdd root", GroupAdd=["0"]),
    host(_RIGHTS, "GroupAdd docker", GroupAdd=["docker"]),
    host(_RIGHTS, "writable root", ReadonlyRootfs=False, tamed=True),
    host(_RIGHTS, "Sysctls", Sysctls={"kernel.shm_rmid_forced": "1"}),
    host(_RIGHTS, "no MaskedPaths", MaskedPaths=[]),
    host(_RIGHTS, "no ReadonlyPaths", ReadonlyPaths=[]),
    host(_RIGHTS, "one of the MaskedPaths", MaskedPaths=["/proc/kcore"]),
    host(_RIGHTS, "no init", Init=False, tamed=True),
    host(_RIGHTS, "RestartPolicy always", RestartPolicy={"Name": "always", "MaximumRetryCount": 0}),
    host(_RIGHTS, "AutoRemove", AutoRemove=True),
    host(_RIGHTS, "log to an address", LogConfig={"Type": "syslog", "Config": {"syslog-address": "udp://1.1.1.1:514"}}),
    host(_RIGHTS, "log without an end", LogConfig={"Type": "json-file", "Config": {"max-size": "100g"}}),
    host(_RIGHTS, "log with labels", LogConfig={"Type": "", "Config": {"labels": "clawfactory.bot"}}),
    create(_RIGHTS, "Entrypoint", {"Entrypoint": ["/bin/sh", "-c"]}),
    create(_RIGHTS, "Entrypoint as text", {"Entrypoint": "sh"}),
    *variants(
        (
            create(_RIGHTS, f"Cmd {command}", {"Cmd": command})
            for command in (
                ["sh", "-c", "id"],
                ["sleep"],
                ["sleep", "infinity", "x"],
                ["/bin/sleep", "infinity"],
                [],
                None,
            )
        ),
        1,
    ),
    create(_RIGHTS, "Cmd as text", {"Cmd": "sleep infinity"}),
    create(_RIGHTS, "Healthcheck that runs by itself", {"Healthcheck": {"Test": ["CMD", "id"], "Interval": 10**9}}),
    create(_RIGHTS, "Shell", {"Shell": ["/bin/sh"]}),
    create(_RIGHTS, "OnBuild", {"OnBuild": ["RUN id"]}),
    create(_RIGHTS, "StopSignal", {"StopSignal": "SIGCONT"}),
    create(_RIGHTS, "StopTimeout", {"StopTimeout": 100000}),
    *variants(
        (
            create(_RIGHTS, f"label {name}", {"Labels": {name: value}})
            for name, value in {
                "clawfactory.bot": "victim",
                "clawfactory.service": "gateway",
                "clawfactory.check": "1",
                "clawfactory.spec": "x",
                "Clawfactory.bot": "victim",
                "com.example": "x",
                "openclaw": "x",
                "com.docker.compose.project": "x",
                "": "x",
            }.items()
        ),
        2,
    ),
    create(_RIGHTS, "labels as a list", {"Labels": ["openclaw.sandbox=1"]}, real=False),
    *variants(
        (
            create(_RIGHTS, f"Env {entry!r}", {"Env": [entry]}, real=entry not in {"", "=x"})
            for entry in ("NAME", "=x", "", "1A=x", "A B=x", "A\n=x", "A=x\0y")
        ),
        1,
    ),
    create(_RIGHTS, "Env of 65 names", {"Env": [f"A{number}=x" for number in range(65)]}),
    create(_RIGHTS, "Env of 40 KiB", {"Env": ["A=" + "x" * 40960]}),
    *variants(
        (
            create(_RIGHTS, f"WorkingDir {path}", {"WorkingDir": path}, real=path.startswith("/"))
            for path in ("/", "/etc", "/workspace/../etc", "/workspacex", "workspace", "/workspace//x")
        ),
        2,
    ),
    create(_RIGHTS, "stdin kept open", {"OpenStdin": True, "AttachStdin": True}, tamed=True),
    create(_RIGHTS, "terminal", {"Tty": True}, tamed=True),
]

DEVICES = [
    *variants(
        (
            host(
                _DEVICES,
                f"Devices {path}",
                Devices=[{"PathOnHost": path, "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}],
            )
            for path in ("/dev/sda", "/dev/mem", "/dev/kmsg", "/dev/fuse", "/dev/null")
        ),
        2,
    ),
    host(_DEVICES, "DeviceRequests", DeviceRequests=[{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]),
    host(_DEVICES, "DeviceCgroupRules", DeviceCgroupRules=["a *:* rwm"]),
    host(_DEVICES, "Runtime runc", Runtime="runc"),
    host(_DEVICES, "Runtime by path", Runtime="/tmp/evil", real=False),
    host(_DEVICES, "CgroupParent root", CgroupParent="/"),
    host(_DEVICES, "CgroupParent above", CgroupParent="../../.."),
    host(_DEVICES, "Isolation", Isolation="process", real=False),
    host(_DEVICES, "BlkioWeight", BlkioWeight=1000),
    host(_DEVICES, "BlkioWeightDevice", BlkioWeightDevice=[{"Path": "/dev/sda", "Weight": 1000}]),
    *variants(
        (
            create(_DEVICES, key, {"HostConfig": {key: [{"Path": "/dev/sda", "Rate": 2**40}]}})
            for key in ("BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps")
        ),
        1,
    ),
    host(_DEVICES, "CpusetCpus", CpusetCpus="0"),
    host(_DEVICES, "CpusetMems", CpusetMems="0"),
    host(_DEVICES, "CpuRealtimeRuntime", CpuRealtimePeriod=1000000, CpuRealtimeRuntime=950000),
    host(_DEVICES, "CpuCount", CpuCount=64),
    host(_DEVICES, "CpuPercent", CpuPercent=100),
    host(_DEVICES, "IOMaximumBandwidth", IOMaximumBandwidth=2**40, real=False),
]

_NO_MEMORY: tuple[object, ...] = (2**63, 2**64 + 1, -(2**63), 1.5, 1e300, "1g", "", True, [1], {})
LIMITS = [
    host(_LIMITS, "Memory of a terabyte", Memory=2**40, tamed=True),
    host(_LIMITS, "no Memory limit", Memory=0, tamed=True),
    host(_LIMITS, "Memory -1", Memory=-1, tamed=True, real=False),
    host(_LIMITS, "Memory 2^63-1", Memory=2**63 - 1, tamed=True),
    *variants((host(_LIMITS, f"Memory {value!r}", Memory=value, real=False) for value in _NO_MEMORY), 2),
    host(_LIMITS, "Memory as a float with a whole value", Memory=1073741824.0, real=False),
    host(_LIMITS, "MemorySwap -1", MemorySwap=-1, tamed=True),
    host(_LIMITS, "MemorySwap of a terabyte", MemorySwap=2**40, tamed=True),
    host(_LIMITS, "MemorySwappiness 100", MemorySwappiness=100),
    host(_LIMITS, "MemoryReservation", MemoryReservation=512 * _MIB),
    host(_LIMITS, "KernelMemory", KernelMemory=512 * _MIB),
    host(_LIMITS, "KernelMemoryTCP", KernelMemoryTCP=512 * _MIB),
    host(_LIMITS, "OomKillDisable", OomKillDisable=True),
    host(_LIMITS, "OomScoreAdj -1000", OomScoreAdj=-1000, tamed=True),
    host(_LIMITS, "OomScoreAdj 1000", OomScoreAdj=1000, tamed=True),
    *(host(_LIMITS, f"PidsLimit {value!r}", PidsLimit=value, tamed=True) for value in (0, -1, 100000, None)),
    host(_LIMITS, "PidsLimit as text", PidsLimit="256", real=False),
    host(_LIMITS, "NanoCpus of 64 processors", NanoCpus=64 * 10**9, tamed=True, real=False),
    host(_LIMITS, "no NanoCpus", NanoCpus=0, tamed=True),
    host(_LIMITS, "NanoCpus -1", NanoCpus=-1, tamed=True, real=False),
    host(_LIMITS, "CpuQuota", CpuQuota=-1),
    host(_LIMITS, "CpuPeriod", CpuPeriod=1000, CpuQuota=1000, NanoCpus=0),
    host(_LIMITS, "CpuShares", CpuShares=262144),
    host(_LIMITS, "ShmSize of a terabyte", ShmSize=2**40),
    host(_LIMITS, "ShmSize -1", ShmSize=-1, real=False),
    host(_LIMITS, "Ulimits nofile", Ulimits=[{"Name": "nofile", "Soft": 1048576, "Hard": 1048576}]),
    host(_LIMITS, "Ulimits memlock", Ulimits=[{"Name": "memlock", "Soft": -1, "Hard": -1}]),
    host(_LIMITS, "Ulimits core", Ulimits=[{"Name": "core", "Soft": -1, "Hard": -1}]),
    call(
        _LIMITS,
        "limits lifted afterwards",
        "POST /containers/$sandbox/update",
        {"Memory": 2**40, "MemorySwap": 2**40, "PidsLimit": 100000},
    ),
    call(
        _LIMITS, "restart policy afterwards", "POST /containers/$sandbox/update", {"RestartPolicy": {"Name": "always"}}
    ),
]

IMAGES = [
    *variants(
        (
            create(
                _IMAGES,
                f"image: {name}",
                {"Image": reference},
                real=name
                in {
                    "of another part",
                    "id of another part",
                    "short id of another part",
                    "digest of another part",
                    "empty",
                },
            )
            for name, reference in {
                "of another part": "$foreign_image",
                "id of another part": "$foreign_image_id",
                "short id of another part": "$foreign_image_short",
                "digest of another part": "sha256:$foreign_image_short",
                "from a registry": "evil.example/x:latest",
                "that does not exist": "nothing-there:latest",
                "with another tag": "${image_name}:latest",
                "without a tag": "$image_name",
                "with a host": "localhost/$image",
                "with blanks": " $image",
                "with a line break": "$image\n",
                "uppercase": "SCRATCH",
                "empty": "",
                "scratch": "scratch",
                "with a digest": "$image@sha256:" + "0" * 64,
                "with dots": "../$image",
            }.items()
        ),
        5,
    ),
    create(_IMAGES, "image as a number", {"Image": 1}, real=False),
    create(_IMAGES, "image left out", {"Image": None}),
    call(_IMAGES, "pull", "POST /images/create?fromImage=alpine&tag=latest", real=False),
    call(
        _IMAGES,
        "pull with credentials",
        "POST /images/create?fromImage=alpine",
        real=False,
        headers=("X-Registry-Auth: e30=",),
    ),
    call(_IMAGES, "import", "POST /images/create?fromSrc=-&repo=evil"),
    call(_IMAGES, "build", "POST /build?t=evil&remote=http%3A%2F%2F127.0.0.1%3A1%2F", real=False),
    call(_IMAGES, "build without BuildKit", "POST /build", real=False),
    call(_IMAGES, "build cache", "POST /build/prune?filters=$nothing"),
    call(_IMAGES, "commit of the own sandbox", "POST /commit?container=$sandbox&repo=evil"),
    call(_IMAGES, "commit of the gateway", "POST /commit?container=$gateway&repo=evil"),
    call(_IMAGES, "load", "POST /images/load"),
    call(_IMAGES, "tag over the sandbox's image", "POST /images/$foreign_image_short/tag?repo=$image_name&tag=evil"),
    call(_IMAGES, "push", "POST /images/$image_name/push?tag=x", real=False, headers=("X-Registry-Auth: e30=",)),
    call(_IMAGES, "delete", "DELETE /images/$victim_tag"),
    call(_IMAGES, "prune", "POST /images/prune?filters=$nothing"),
    call(_IMAGES, "list", "GET /images/json"),
    call(_IMAGES, "history", "GET /images/$image/history"),
    call(_IMAGES, "export", "GET /images/$image/get"),
    call(_IMAGES, "export of several", "GET /images/get?names=$image"),
    call(_IMAGES, "search", "GET /images/search?term=x", real=False),
    call(
        _IMAGES,
        "inspect of another image",
        "GET /images/$foreign_image/json",
        expected=frozenset({403, 404}),
        audited=False,
    ),
    call(
        _IMAGES,
        "inspect of another image by id",
        "GET /images/$foreign_image_id/json",
        expected=frozenset({403, 404}),
        audited=False,
    ),
    call(
        _IMAGES,
        "inspect of another image by short id",
        "GET /images/$foreign_image_short/json",
        expected=frozenset({403, 404}),
        audited=False,
    ),
]
