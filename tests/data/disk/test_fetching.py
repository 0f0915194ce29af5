"""Lists from addresses, served on this machine."""

import functools
import http.server
import io
import tarfile
import threading
import zipfile

import pytest

from tests.data.small_lists import videos, write_clip_fsar, write_trx
from vidlib.basics.errors import UserError
from vidlib.data.disk import fetching, lists

pytestmark = pytest.mark.usefixtures("data")


@pytest.fixture
def server(tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if self.path.startswith("/moved/"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/moved"))
                self.end_headers()
            else:
                super().do_GET()

    root = tmp_path / "served"
    root.mkdir()
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}", root
    made.shutdown()
    made.server_close()


def test_lists_are_fetched_from_archives_and_as_single_files(server, tmp_path):
    address, root = server
    write_trx(tmp_path / "repo", "hmdb51", videos("hmdb51"))
    write_clip_fsar(tmp_path / "repo", "hmdb51", videos("hmdb51"))
    (tmp_path / "repo" / "README.md").write_text("no list")
    with zipfile.ZipFile(root / "main.zip", "w") as archive:
        for file in (tmp_path / "repo").rglob("*.*"):
            archive.write(file, f"repo-main/{file.relative_to(tmp_path / 'repo')}")
    with tarfile.open(root / "main.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "repo", "repo-main")
    for name in ("main.zip", "main.tar.gz", "moved/main.zip"):
        with fetching.opened(f"{address}/{name}") as folder:
            assert not list(folder.rglob("README.md"))
            assert {f: len(p.rows) for f, p in lists.read("hmdb51", folder).items()} == {"trx": 102, "clip_fsar": 102}
        assert not folder.exists()
    (root / "hmdb_ARN").mkdir()
    (root / "hmdb_ARN" / "vallist03.txt").write_text("cartwheel/x\n")
    with fetching.opened(f"{address}/hmdb_ARN/vallist03.txt?raw=true") as folder:
        assert [row.video for row in lists.read("hmdb51", folder)["trx"].rows] == ["cartwheel/x"]
    with fetching.opened(str(root)) as folder:
        assert folder == root


def test_addresses_that_do_not_serve_are_one_sentence(server, monkeypatch):
    address, root = server
    (root / "page.html").write_text("<html>")
    (root / "bad.zip").write_bytes(b"PK\3\4 no archive")
    with zipfile.ZipFile(root / "climbs.zip", "w") as archive:
        archive.writestr("../../vallist03.txt", "cartwheel/x\n")
    with tarfile.open(root / "climbs.tar", "w") as archive:
        member = tarfile.TarInfo("/tmp/vallist03.txt")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    with zipfile.ZipFile(root / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vallist03.txt", b"\0" * 5000)
    monkeypatch.setattr(fetching, "LARGEST", 4000)
    cases = [
        (f"{address}/nothing.zip", "answers 404"),
        (f"{address}/page.html", "holds no list; expected an archive or one of"),
        (f"{address}/bad.zip", "holds no list"),
        (f"{address}/climbs.zip", "'../../vallist03.txt' lies outside the archive; such an entry is refused"),
        (f"{address}/climbs.tar", "'/tmp/vallist03.txt' lies outside the archive"),
        (f"{address}/bomb.zip", "has more than 0 MiB"),
        ("file:///etc/passwd", "only http and https addresses are fetched"),
        ("http://127.0.0.1:9/x.zip", "cannot be fetched"),
    ]
    for source, words in cases:
        with pytest.raises(UserError, match=words) as error, fetching.opened(source):
            pass
        assert "\n" not in str(error.value)
    with tarfile.open(root / "main.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("x"))
        member = tarfile.TarInfo("large")
        member.size = 2000
        archive.addfile(member, io.BytesIO(b"\0" * 2000))
    monkeypatch.setattr(fetching, "UNPACKED", 1000)
    with pytest.raises(UserError, match="cannot be used .it unpacks"), fetching.opened(f"{address}/main.tar.gz"):
        pass
    monkeypatch.setattr(fetching, "LONGEST", 100)
    with pytest.raises(UserError, match="fetch it yourself"), fetching.opened(f"{address}/bomb.zip"):
        pass
