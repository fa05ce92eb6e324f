"""A real Kafka behind TLS and logins (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512), as a pipeline's output and as its source: broker and daemon are
killed once under load, logins expire every few seconds; then what came is counted. And what wrong passwords, foreign certificates and ports that
speak something else are answered with. Called by kafka_edge.py."""

import json
import os
import subprocess
import time

import confluent_kafka.admin
from daemon import free_port

PASSWORDS = {"PLAIN": "pl=ain, one", "SCRAM-SHA-256": "sc=ram 256, ü", "SCRAM-SHA-512": "sc=ram-512"}
WRONG = "wr0ng-passw0rd"
EVENTS, PATIENCE_S = 20_000, 90
REAUTH_MS = 4_000


def certificates(folder):
    """An authority, the broker's key with its certificate for 127.0.0.1, and another authority that has signed nothing."""
    run = lambda *command: subprocess.run(["openssl", *command], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for name in ("ca", "foreign"):
        run("req", "-x509", *curve, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}")
    run("req", "-new", *curve, "-keyout", "broker.key", "-out", "broker.csr", "-subj", "/CN=broker")
    with open(f"{folder}/broker.ext", "w", encoding="utf-8") as file:
        file.write("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    run("x509", "-req", "-in", "broker.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "broker.ext", "-out", "broker.crt")
    with open(f"{folder}/broker.pem", "w", encoding="utf-8") as whole:
        for part in ("broker.key", "broker.crt"):
            with open(f"{folder}/{part}", encoding="utf-8") as file:
                whole.write(file.read())


def listeners(folder, kafka):
    """The broker's settings: a port in the clear, one with TLS, one with TLS and logins, one with logins alone."""
    names = {"PLAINTEXT": "PLAINTEXT", "TLS": "SSL", "LOGIN": "SASL_SSL", "BARE": "SASL_PLAINTEXT"}
    ports = {name: kafka.port if name == "PLAINTEXT" else free_port() for name in names}
    controller = free_port()
    places = [f"{name}://127.0.0.1:{port}" for name, port in ports.items()]
    settings = {
        "listeners": ",".join([*places, f"CONTROLLER://127.0.0.1:{controller}"]),
        "advertised.listeners": ",".join(places),
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": ",".join(f"{name}:{kind}" for name, kind in {**names, "CONTROLLER": "PLAINTEXT"}.items()),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": f"{folder}/broker.pem",
        "listener.name.bare.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.login.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.login.plain.sasl.jaas.config": f'org.apache.kafka.common.security.plain.PlainLoginModule required user_edge="{PASSWORDS["PLAIN"]}";',
    }
    for listener, bits in (("login", 256), ("login", 512), ("bare", 512)):
        settings[f"listener.name.{listener}.scram-sha-{bits}.sasl.jaas.config"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    for mechanism in ("plain", "scram-sha-256", "scram-sha-512"):
        settings[f"listener.name.login.{mechanism}.connections.max.reauth.ms"] = str(REAUTH_MS)
    return ports, [f"{key}={value}" for key, value in settings.items()]


def users(address):
    """Who may log in by SCRAM."""
    admin = confluent_kafka.admin
    one = lambda name: admin.UserScramCredentialUpsertion("edge", admin.ScramCredentialInfo(getattr(admin.ScramMechanism, name.replace("-", "_")), 4096), PASSWORDS[name].encode())
    client = admin.AdminClient({"bootstrap.servers": address, "log_level": 0})
    # Both of one user in one request are one too many for librdkafka.
    for name in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
        for done in client.alter_user_scram_credentials([one(name)]).values():
            done.result(30)


def login(mechanism, password=None):
    return f'sasl = {{ mechanism = "{mechanism}", username = "edge", password = "{password or PASSWORDS[mechanism]}" }}'


CA = 'tls = { ca = "../ca.pem" }'


def write(folder, name, text):
    with open(f"{folder}/pipelines/{name}.toml", "w", encoding="utf-8") as file:
        file.write(text + '[columns]\nn = "int64"\nkey = "string"\n')


def reasons(node):
    """By pipeline all that its status says."""
    told = subprocess.run([node.inrush, "pipeline", "status", "--admin", f"127.0.0.1:{node.admin}", "--json"], stdout=subprocess.PIPE, check=False).stdout
    found, rest = {}, json.loads(told)
    for one in rest if isinstance(rest, list) else rest["pipelines"]:
        found[one["name"]] = one.get("reason") or ""
    return found


def secure(kafka, make_node, make, read_all, judge):
    """Says whether anything is wrong."""
    folder = os.path.dirname(kafka.folder)
    certificates(folder)
    ports, settings = listeners(folder, kafka)
    kafka.start(*settings)
    users(kafka.address)
    at = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    ways = {"tls": (at["TLS"], CA), "bare512": (at["BARE"], login("SCRAM-SHA-512"))}
    ways |= {name.lower().replace("scram-sha-", "scram"): (at["LOGIN"], f"{CA}, {login(name)}") for name in PASSWORDS}
    os.makedirs(f"{folder}/pipelines")
    for way, (servers, how) in ways.items():
        make(kafka.address, way, 2)
        group = f', group = "{way}"' if way in ("tls", "scram512") else ""
        write(folder, f"to-{way}", f'from = "topic:in"\nto = {{ kafka = "{way}", servers = "{servers}", key = "key", {how} }}\n')
        write(folder, f"from-{way}", f'from = {{ kafka = "{way}", servers = "{servers}"{group}, {how} }}\nto = {{ topic = "back-{way}", key = "key" }}\n')
    wrong = {
        "password": (at["LOGIN"], f'{CA}, {login("PLAIN", WRONG)}', "look at username, password and mechanism of sasl"),
        "scram-password": (at["LOGIN"], f'{CA}, {login("SCRAM-SHA-256", WRONG)}', "look at username, password and mechanism of sasl"),
        "mechanism": (at["BARE"], login("PLAIN"), "it takes SCRAM-SHA-512: say one of them as mechanism of sasl"),
        "no-login": (at["LOGIN"], CA, "if the broker wants a login, say it with sasl"),
        "needless-login": (at["TLS"], f'{CA}, {login("PLAIN")}', "this port wants no login"),
        "foreign-ca": (at["TLS"], 'tls = { ca = "../foreign.pem" }', 'name the authority that has signed the brokers\' certificates with tls = { ca = "FILE" }'),
        "other-name": (f"localhost:{ports['TLS']}", CA, "must be names that their certificates are for"),
        "no-tls": (at["TLS"], "", "this port speaks TLS: add tls"),
        "needless-tls": (at["PLAINTEXT"], CA, "a port that speaks no TLS closes the connection so"),
    }
    for name, (servers, how, _) in wrong.items():
        to = ", ".join(part for part in (f'kafka = "x-{name}", servers = "{servers}"', how) if part)
        write(folder, f"x-{name}", f'from = "topic:in"\nto = {{ {to} }}\n')
        write(folder, f"y-{name}", f"from = {{ {to} }}\nto = {{ topic = \"y\" }}\n")
    node = make_node(folder)
    make(node.address, "in", 2)
    producer = confluent_kafka.Producer({"bootstrap.servers": node.address, "enable.idempotence": True, "message.timeout.ms": 0, "log_level": 0})
    acknowledged = set()
    for n in range(EVENTS):
        note = lambda error, _, n=n: error or acknowledged.add(n)
        producer.produce("in", json.dumps({"n": n, "key": f"k{n % 50}"}), key=f"k{n % 50}", on_delivery=note)
        producer.poll(0.001 if n % 4 == 0 else 0)
        if n == EVENTS // 3:
            node.kill()
            node.start()
        if n == EVENTS // 2:
            kafka.kill()
            kafka.start(*settings)
    assert producer.flush(PATIENCE_S) == 0
    failed = False
    for way in ways:
        for name, address, topic in (("to", kafka.address, way), ("from", node.address, f"back-{way}")):
            seen, out_of_order, _ = read_all(address, topic, lambda seen: acknowledged <= set(seen))
            failed |= judge(f"{name} kafka by {way}", acknowledged, seen) or bool(out_of_order)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        told = reasons(node)
        silent = [name for name, (_, _, wanted) in wrong.items() for side in "xy" if wanted not in told.get(f"{side}-{name}", "")]
        if not silent or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    leaks = [name for name, reason in told.items() if any(password in reason for password in [WRONG, *PASSWORDS.values()])]
    print(f"{len(ways)} ways in, {len(wrong) - len(set(silent))} of {len(wrong)} mistakes told with what to do, {len(leaks)} passwords told")
    for name in wrong:
        print(f"  {name}: {told.get('x-' + name)}" + (f"\n    source: {told.get('y-' + name)}" if name in silent else ""))
    node.process.terminate()
    node.process.wait(60)
    if failed:
        with open(f"{folder}/log", encoding="utf-8") as log:
            print("".join([line for line in log if '"WARN"' in line or '"ERROR"' in line][-30:]))
    return failed or bool(silent) or bool(leaks)
