"""A bot's repositories, its remote, and what it proposes."""

from __future__ import annotations

import pytest

from tests.support.git_repositories import commit, git, make_repositories


@pytest.fixture
def repositories(settings):
    return make_repositories(settings.repositories_dir, {"workspace/SOUL.md": "I am a bot.\n"})


@pytest.fixture
def remote_repository(repositories, tmp_path):
    path = tmp_path / "remote.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(repositories.origin), str(path))
    return path


@pytest.fixture
def propose(repositories):
    work = repositories.directory / "work"

    def propose(name: str, text: str) -> str:
        sha = commit(work, f"Propose {text}", {"workspace/SOUL.md": f"{text}\n"})
        git(work, "push", "--quiet", str(repositories.proposals), f"HEAD:refs/heads/proposal/{name}")
        return sha

    return propose
