"""The kill switch: network first, then every process, then restart policies, then the lock, then the audit."""
