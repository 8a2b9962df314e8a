"""Runs the project's tests stage by stage and counts them: what ``./clawfactory test`` does."""
