"""Pushes that must not succeed, as shell scripts that run in the gateway with the bot's own token and plain Git."""

#: Prepares a clone, and shell functions to make what Git's own commands would not.
#: ``entry MODE TYPE NAME OBJECT`` is a line of a tree, ``try`` proposes the tree of such lines.
PREPARE = r"""set -eu
. /opt/clawfactory/lib/env.sh && load_env_file /run/secrets/gateway.env
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=http.extraHeader GIT_TERMINAL_PROMPT=0
export GIT_CONFIG_VALUE_0="Authorization: Bearer $CLAWFACTORY_AGENT_TOKEN"
export GIT_AUTHOR_NAME=x GIT_AUTHOR_EMAIL=x@x GIT_COMMITTER_NAME=x GIT_COMMITTER_EMAIL=x@x
url=$CLAWFACTORY_AGENT_URL/repository.git
cd /tmp && rm -rf attack && git clone -q "$url" attack && cd attack
change() { git commit -q --allow-empty -m attack; }
blob() { printf %s "${1:-x}" | git hash-object -w --stdin; }
entry() { printf "$1 $2 $4\t$3\n"; }
push() { git push -q "$@"; }
propose() { push "$url" "$1:refs/heads/proposal/t"; }
offer() { propose "$(git commit-tree -p HEAD -m attack "$1")"; }
try() { offer "$(git mktree --missing)"; }
"""
#: ``raw HOW NAME`` sends a commit as no Git would: its pack is bent. It succeeds if the other side unpacked it.
RAW = r"""
cat > /tmp/bend.js <<'END'
const fs = require("fs"), crypto = require("crypto");
const [how, name, commit] = process.argv.slice(2);
const pack = fs.readFileSync("/tmp/pack");
const sealed = (body) => Buffer.concat([body, crypto.createHash("sha1").update(body).digest()]);
const head = (version, count) => {
  const body = Buffer.from(pack.subarray(0, -20));
  body.writeUInt32BE(version, 4);
  body.writeUInt32BE(count, 8);
  return sealed(body);
};
const bent = {
  whole: () => pack,
  "cut short": () => pack.subarray(0, pack.length >> 1),
  "with a wrong checksum": () => Buffer.concat([pack.subarray(0, -20), Buffer.alloc(20)]),
  "of 4,294,967,295 objects": () => head(2, 0xffffffff),
  "of fewer objects than it has": () => head(2, 0),
  "of another version": () => head(9, pack.readUInt32BE(8)),
  "that is none": () => Buffer.from("#!/bin/sh\n"),
};
const line = `${"0".repeat(40)} ${commit} refs/heads/proposal/${name}\0report-status`;
const length = (line.length + 4).toString(16).padStart(4, "0");
process.stdout.write(Buffer.concat([Buffer.from(`${length}${line}0000`), bent[how]()]));
END
raw() {
    echo "$1" >> workspace/SOUL.md; git add .; change
    printf 'HEAD\n^origin/main\n' | git pack-objects -q --revs --stdout > /tmp/pack
    node /tmp/bend.js "$1" "$2" "$(git rev-parse HEAD)" > /tmp/request
    curl -s -m 60 -o /tmp/answer -w 'status %{http_code}\n' -H "$GIT_CONFIG_VALUE_0" --data-binary @/tmp/request \
        -H 'Content-Type: application/x-git-receive-pack-request' "$url/git-receive-pack" >&2
    tr -cd '\n -~' < /tmp/answer >&2
    grep -aq 'unpack ok' /tmp/answer
}
"""
_PACKS = (
    "cut short", "with a wrong checksum", "of 4,294,967,295 objects", "of fewer objects than it has",
    "of another version", "that is none",
)  # fmt: skip
_REFERENCES = {
    "main": "refs/heads/main",
    "tag": "refs/tags/v1",
    "notes": "refs/notes/commits",
    "pull request": "refs/pull/1/head",
    "proposals of the machine": "refs/proposals/x",
    "replacement": "refs/replace/0123456789012345678901234567890123456789",
    "another branch": "refs/heads/other",
    "memory backup": "refs/heads/memory-backup",
    "nested name": "refs/heads/proposal/a/b",
    "capital name": "refs/heads/proposal/A",
    "name that ends in a dash": "refs/heads/proposal/a-",
    "long name": f"refs/heads/proposal/{'a' * 65}",
    "no name": "refs/heads/proposal",
}
_TREES = {
    ".git": "entry 100644 blob .git $(blob)",
    ".GIT": "entry 100644 blob .GIT $(blob)",
    "git~1": "entry 100644 blob git~1 $(blob)",
    ".git with a dot behind": "entry 100644 blob .git. $(blob)",
    ".git with a stream behind": "entry 100644 blob '.git::$INDEX_ALLOCATION' $(blob)",
    ".git with an ignorable character": r"entry 100644 blob '.g\342\200\214it' $(blob)",
    "a parent": "entry 100644 blob .. $(blob)",
    ".gitattributes": "entry 100644 blob .gitattributes $(blob '* text')",
    ".gitmodules": "entry 100644 blob .gitmodules $(blob)",
    "a submodule": "entry 160000 commit sub $(git rev-parse HEAD)",
    "an absolute link": "entry 120000 blob link $(blob /etc/passwd)",
    "a link out": "entry 120000 blob link $(blob ../../x)",
    "a link to itself": "entry 120000 blob link $(blob link)",
    "names that differ by case": "b=$(blob); { entry 100644 blob A $b; entry 100644 blob a $b; }",
    "a control character": r"entry 100644 blob 'a\033b' $(blob)",
    "a name that is no UTF-8": r"entry 100644 blob 'a\377b' $(blob)",
    "an odd mode": "entry 104755 blob a $(blob)",
}
_NAMES = (
    "b=$(blob); n=$(printf '%0240d' 0); i=0; "
    'while [ $i -lt 42000 ]; do echo "100644 blob $b\t$n$i"; i=$((i + 1)); done | try'
)
# Not even mktree makes this one.
_LINE = 'Buffer.from("100644 ../../x\\0"), Buffer.from(process.argv[1], "hex")'
_SLASH = (
    f"node -e 'process.stdout.write(Buffer.concat([{_LINE}]))' "
    '"$(blob)" | git hash-object -t tree -w --stdin --literally'
)
_LARGE = "head -c 6000000 /dev/urandom > big; git add big; change; propose HEAD"
_PACK = "for i in 1 2 3 4 5; do head -c 4900000 /dev/urandom > big$i; done; git add .; change; propose HEAD"
_OTHER = "GIT_CONFIG_VALUE_0='Authorization: Bearer 0123456789abcdef0123456789abcdef'"

ATTACKS = {
    **{f"to {name}": f'change; push "$url" HEAD:{reference}' for name, reference in _REFERENCES.items()},
    **{f"of {name}": f"{{ {lines}; }} | try" for name, lines in _TREES.items()},
    "of main, forced": 'git commit -q --amend --allow-empty -m x; push --force "$url" HEAD:refs/heads/main',
    "of one good and one bad": 'change; push --atomic "$url" HEAD:refs/heads/proposal/fine HEAD:refs/heads/main',
    "of nothing, to delete": 'push "$url" :refs/heads/proposal/by-hand',
    "of other work, forced": 'change; push --force "$url" HEAD:refs/heads/proposal/by-hand',
    "of everything": 'change; push --mirror "$url"',
    "of a foreign root": "git checkout -q --orphan o; change; propose HEAD",
    "of a name with a slash": f'offer "$({_SLASH})"',
    "of a large file": _LARGE,
    "of a large pack": _PACK,
    "of 10 MB of names": _NAMES,
    "with another token": f"{_OTHER}; {{ entry 100644 blob a $(blob); }} | try",
    "without a token": "unset GIT_CONFIG_COUNT; { entry 100644 blob a $(blob); } | try",
    "with options": 'change; push -o promote "$url" HEAD:refs/heads/proposal/t',
    **{f"of a pack {how}": f"{RAW}raw '{how}' t" for how in _PACKS},
}

#: Pushes to another bot's repository with the own token. ``$name`` is that bot, ``$other`` its controller's address,
#: ``$port`` where its controller is published.
_THERE = {
    "at its address": "http://$other:8090/agent/repository.git",
    "at its host name": "http://$name-controller:8090/agent/repository.git",
    "at its container's name": "http://clawfactory-$name-controller:8090/agent/repository.git",
    "at the machine": "http://host.docker.internal:$port/agent/repository.git",
    "at its published port": "http://127.0.0.1:$port/agent/repository.git",
    "below its name": "$base/$name/repository.git",
    "as its name": "$base/$name.git",
    "beside the own": "$base/repository.git/../$name/repository.git",
    "beside the own, encoded": "$base/repository.git/%2e%2e/$name/repository.git",
    "beside the own, encoded whole": "$base/..%2f..%2f$name%2fproposals.git",
    "beside the own, encoded twice": "$base/%252e%252e/$name/proposals.git",
    "by an absolute path": "$base//srv/clawfactory/bot_repos/$name/proposals.git",
    "with a login of its name": "http://$name@${base#http://}/$name/repository.git",
    "in a file": "file:///srv/clawfactory/bot_repos/$name/proposals.git",
}
_BY_EGRESS = ("at its address", "at its host name", "at the machine", "at its published port")
_FOREIGN = "HEAD:refs/heads/proposal/foreign"
FOREIGN = {
    **{where: f'timeout 20 git push -q "{url}" {_FOREIGN}' for where, url in _THERE.items()},
    **{
        f"{where}, by egress": f'timeout 20 git -c http.proxy=http://egress:3128 push -q "{_THERE[where]}" {_FOREIGN}'
        for where in _BY_EGRESS
    },
    "with its token at the own": f'GIT_CONFIG_VALUE_0="Authorization: Bearer $token"; push "$url" {_FOREIGN}',
}
