"""NumPy's own tests of arrays, without those that it marks as slow: the same outcomes on our heap as on plain python."""

import subprocess
import xml.etree.ElementTree

import interpreters


def test_numpys_own_tests(python, tmp_path):
    program = "import numpy; print('numpy._core' if numpy.__version__[0] > '1' else 'numpy.core')"
    package = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    outcomes = {}
    for side, variables in (("plain", {}), ("ours", {"HEAPKEEPER": "on"})):
        environment = interpreters.clean_environment() | variables | {"PYTHONDONTWRITEBYTECODE": "1"}
        environment["PATH"] = f"{python.parent}:{environment['PATH']}"
        report = tmp_path / f"{side}.xml"
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        command += ["-m", "not slow", "--pyargs", f"{package}.tests.test_multiarray"]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, cwd=tmp_path)
        assert report.exists(), answer.stdout[-2000:] + answer.stderr[-2000:]
        cases = xml.etree.ElementTree.parse(report).iter("testcase")
        outcomes[side] = {
            (case.get("classname"), case.get("name")): sorted(child.tag for child in case if child.tag != "properties")
            for case in cases
        }
    assert outcomes["ours"] == outcomes["plain"]
    assert sum(not found for found in outcomes["ours"].values()) >= 2000
