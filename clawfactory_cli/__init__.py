"""The command line of ClawFactory: a thin front to the playbooks. It decides nothing that Ansible decides."""
