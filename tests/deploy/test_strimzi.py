"""The Kafka cluster of the component `operators` against the schemas of the operator that is to run it."""

from pathlib import Path

import pytest
import yaml

from support.published_schemas import assert_fits
from support.repository import ROOT
from support.strimzi_schemas import schemas

KAFKA = ROOT / "deploy" / "k8s" / "components" / "operators" / "kafka.yaml"


@pytest.mark.long
def test_the_kafka_cluster_fits_what_strimzi_publishes(tmp_path: Path) -> None:
    published = schemas(tmp_path)
    objects = list(yaml.load_all(KAFKA.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))
    assert {one["kind"] for one in objects} == {"Kafka", "KafkaNodePool", "KafkaUser"}
    for one in objects:
        assert_fits(one, published[one["apiVersion"], one["kind"]])
