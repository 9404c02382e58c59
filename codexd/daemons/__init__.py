"""The daemons of this user that run, one small file each; and one daemon a CODEX_HOME."""
