"""Asking for a group while its coordinator is being found."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from io_connectors.kafka import once_the_group_is_found


def test_a_coordinator_that_is_being_found_is_asked_again():
    answers = [KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, None]

    @once_the_group_is_found
    def ask():
        if (code := answers.pop(0)) is not None:
            raise KafkaException(KafkaError(code))
        return "found"

    assert ask() == "found"


def test_another_error_is_raised_at_once():
    asked = []

    @once_the_group_is_found
    def ask():
        asked.append(1)
        raise KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))

    with pytest.raises(KafkaException):
        ask()
    assert len(asked) == 1
