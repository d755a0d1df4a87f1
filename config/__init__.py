"""One typed table of every environment variable."""

from config.variables import Config, ConfigError, Mistake, load

__all__ = ["Config", "ConfigError", "Mistake", "load"]
