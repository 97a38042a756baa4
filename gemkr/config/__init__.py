"""From YAML and `key=value` overrides to frozen dataclasses; what the settings are stands beside what they are for."""
