"""The heart of the plugin: hears what happens, has it recorded, talks to the child."""
