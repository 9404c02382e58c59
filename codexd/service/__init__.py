"""codexd as a service of launchd or systemd: installed, removed, looked at."""
