"""What each process reads of its environment."""

from audit.settings import Settings as AuditSettings
from common import prepare
from common.settings import ProcessSettings
from credits.settings import Settings as CreditsSettings
from gateway.settings import Settings as GatewaySettings
from ingest.settings import Settings as IngestSettings

SETTINGS: dict[str, type[ProcessSettings]] = {
    "gateway": GatewaySettings,
    "credits": CreditsSettings,
    "ingest-worker": IngestSettings,
    "audit-logger": AuditSettings,
    "prepare": prepare.Settings,
}
# Read by libraries from the environment, not by a settings class.
LIBRARIES = {"OTEL_EXPORTER_OTLP_ENDPOINT", "AWS_REGION", "AWS_ENDPOINT"}
