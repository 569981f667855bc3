"""A package index for build_test.cc: one wheel, TLS by a CA of its own, Basic authentication.

    test_index.py FOLDER    makes FOLDER/ca.crt and the wheel, prints the port, serves until its end
"""
import base64
import hashlib
import http.server
import os
import ssl
import subprocess
import sys
import zipfile

FOLDER = sys.argv[1]
WHEEL = "loam_probe-1.0-py3-none-any.whl"
EXPECTED = "Basic " + base64.b64encode(b"ana:s3cret").decode()


def make_wheel():
    files = {
        "loam_probe.py": "def main():\n    print('probe')\n",
        "loam_probe-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: loam-probe\nVersion: 1.0\n",
        "loam_probe-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "loam_probe-1.0.dist-info/entry_points.txt": "[console_scripts]\nloam-probe = loam_probe:main\n",
    }
    records = []
    with zipfile.ZipFile(os.path.join(FOLDER, WHEEL), "w") as archive:
        for name, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            records.append("%s,sha256=%s,%d" % (name, digest, len(text)))
            archive.writestr(name, text)
        record = "loam_probe-1.0.dist-info/RECORD"
        archive.writestr(record, "\n".join(records + [record + ",,"]) + "\n")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.headers.get("Authorization") != EXPECTED:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.end_headers()
            return
        if self.path == "/simple/loam-probe/":
            body, kind = ('<a href="/files/%s">%s</a>' % (WHEEL, WHEEL)).encode(), "text/html"
        elif self.path == "/files/" + WHEEL:
            with open(os.path.join(FOLDER, WHEEL), "rb") as file:
                body, kind = file.read(), "application/octet-stream"
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


certificate, key = os.path.join(FOLDER, "ca.crt"), os.path.join(FOLDER, "ca.key")
subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
               check=True, stderr=subprocess.DEVNULL)
make_wheel()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
