"""What kafka-python's integration tests import as `test.service`, which its sdists lack. The broker is one that runs already, so nothing is started."""


class ExternalService:
    """A broker that somebody else runs."""

    def __init__(self, host, port):
        self.host, self.port = host, port

    def open(self):
        pass

    def close(self):
        pass

    def dump_logs(self):
        pass


class SpawnedService:
    """Tests that start a Kafka of their own cannot run: there is none."""

    def __init__(self, *arguments, **options):
        raise RuntimeError("this test starts a Kafka of its own")
