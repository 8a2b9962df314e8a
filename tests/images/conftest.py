"""Tests of images and of what stands beside the bots, with containers of their own on this machine's engine."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.exit("these tests give files to the bots' users and make machines without network: run them as root", 2)
