"""The controller of one bot: the operator's API and pages, served on a unix socket that only the proxy shares."""
