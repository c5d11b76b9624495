"""What each process reads of its environment."""

from devstack.settings_page import SETTINGS

__all__ = ["LIBRARIES", "SETTINGS"]
# Read by libraries from the environment, not by a settings class.
LIBRARIES = {"OTEL_EXPORTER_OTLP_ENDPOINT", "AWS_REGION", "AWS_ENDPOINT"}
