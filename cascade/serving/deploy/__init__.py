"""From a configuration to a running application: Ray, its resources, its signals, its files."""
