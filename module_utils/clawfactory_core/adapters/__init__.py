"""The only files that import docker, git or pyrage, each guarded by :class:`..errors.MissingDependency`."""
