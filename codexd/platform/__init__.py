"""What differs between Linux and macOS, behind one small interface a module."""
