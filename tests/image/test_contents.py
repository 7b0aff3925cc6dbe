"""What is in the image and what is not: packages, libraries, labels, layers."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from built_image import Image

ROOT = Path(__file__).parents[2]
SITE = "/opt/nas/lib/python3.11/site-packages"
# Of the driver, which the node brings, and of networks between GPUs, which torch does without.
OUTSIDE = {
    *("libcuda.so.1", "libnvidia-ml.so.1"),
    *("libmlx5.so.1", "libibverbs.so.1", "librdmacm.so.1", "libfabric.so.1"),
    *("libucs.so.0", "libucp.so.0", "libmpi.so.40", "libpmix.so.2", "liboshmem.so.40"),
}
MOST_GB = {"cuda": 5.5, "cpu": 2.4}


@pytest.fixture(scope="module")
def device(image: Image) -> str:
    return "cuda" if "nvidia_cudnn" in image.run("ls", SITE).stdout else "cpu"


def test_nothing_is_missing_that_a_library_links_to(image: Image) -> None:
    """Nor on a node with GPUs: whatever torch's CUDA libraries name was left in the image."""
    script = f"""
cd {SITE}
find . -name '*.so*' -type f | while read -r file; do
  ldd "$file" 2>/dev/null | sed -n "s|^[[:space:]]*\\(.*\\) => not found|$file \\1|p"
done
find . -name '*.so*' | sed 's|.*/|have |'
"""
    lines = [line.split() for line in image.run("sh", "-c", script).stdout.splitlines()]
    have = {name for first, name in lines if first == "have"}
    # A library that another one has loaded before is found without a path to it.
    lost = {
        (file, name)
        for file, name in lines
        if file != "have" and name not in OUTSIDE and name not in have
    }
    assert len(have) > 300
    assert lost == set()


def test_the_libraries_of_cuda_can_be_loaded(image: Image, device: str) -> None:
    """All that torch loads, also later (cuSOLVER, cuDNN's parts), as far as no GPU is needed."""
    if device == "cpu":
        pytest.skip("the variant for CPUs has no CUDA")
    code = f"""
import ctypes, pathlib, torch
site = pathlib.Path("{SITE}")
found = sorted([*site.glob("nvidia/*/lib/*.so*"), *site.glob("torch/lib/*.so")])
for path in found:
    if path.name.startswith(("nvshmem_", "libcufile_rdma", "libcaffe2_nvrtc")):
        continue  # transports between nodes, and what needs the driver
    ctypes.CDLL(str(path))
print(len(found), torch.version.cuda, torch.backends.cudnn.version())
"""
    number, cuda, cudnn = image.python(code).split()
    assert int(number) > 35
    assert cuda.startswith("13.")
    assert int(cudnn) > 90000


def test_the_variant_for_cpus_has_all_functions_that_torch_names(image: Image, device: str) -> None:
    """Of NVIDIA's libraries, for which images/stand_ins.py made others."""
    if device == "cuda":
        pytest.skip("this variant has the libraries themselves")
    script = f"ldd -r {SITE}/torch/lib/*.so 2>&1 | sed -n 's|^undefined symbol: ||p'"
    lost = {line.split()[0] for line in image.run("sh", "-c", script).stdout.splitlines()}
    # Of C++, of Python itself, of the driver.
    assert {one for one in lost if not re.match(r"_Z|_?Py|cu[A-Z]", one)} == set()
    code = """
import torch
network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
network(torch.ones(2, 3, 8, 8)).sum().backward()
print(torch.cuda.is_available(), torch.cuda.device_count())
print(torch.linalg.svdvals(torch.eye(2)).sum())
try:
    torch.ones(1).cuda()
except RuntimeError as error:
    print("Found no NVIDIA driver" in str(error))
"""
    assert image.python(code) == "False 0\ntensor(2.)\nTrue\n"


def test_no_compiler_no_installer_and_nothing_of_the_build_is_left(image: Image) -> None:
    script = f"""
for name in gcc cc c++ make git curl wget nvcc ptxas; do command -v $name; done
for name in pip triton pytest; do ls -d {SITE}/$name 2>/dev/null; done
ls -d /opt/tools /build /etc/pip.conf /root/.cache 2>/dev/null
find {SITE} -name '*.a' -o -name '*.h' -o -type d -name tests | head
"""
    assert image.run("sh", "-c", script).stdout == ""


def test_all_may_read_what_is_installed_and_only_root_may_write(image: Image) -> None:
    script = r"find /opt/nas /usr/share/nas \( ! -perm -o=r -o -perm /go=w \) ! -type l | head"
    assert image.run("sh", "-c", script, user="0:0").stdout == ""
    script = "find /opt/nas -type d ! -perm -o=x | head"
    assert image.run("sh", "-c", script, user="0:0").stdout == ""


def test_modules_start_from_stored_bytecode(image: Image) -> None:
    """Nothing can be stored later; to compile torch and MLflow takes seconds for each start."""
    done = image.run("python3", "-v", "-c", "import nascore.config, torch, mlflow, pipelines.cli")
    assert re.findall(r"code object from '?(/opt/nas/\S+\.py)\b(?!c)", done.stderr) == []
    assert done.stderr.count("matches /opt/nas/") > 500


def test_labels_and_environment_name_the_code(image: Image) -> None:
    config = image.inspect()["Config"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = {
        key.removeprefix("org.opencontainers.image."): value
        for key, value in config["Labels"].items()
    }
    environment = dict(one.split("=", 1) for one in config["Env"])
    assert (labels["title"], labels["version"]) == (project["name"], project["version"])
    assert labels["description"] == project["description"]
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels["revision"])
    assert environment["NAS_GIT_REVISION"] == labels["revision"]


def test_the_list_of_packages_holds_all_that_is_installed(image: Image) -> None:
    code = """
import importlib.metadata, json, subprocess
named = {one.name: one.version for one in importlib.metadata.distributions()}
query = ["dpkg-query", "--show", "--showformat=${Package}\\t${Version}\\n"]
debian = dict(line.split("\\t") for line in subprocess.check_output(query, text=True).splitlines())
bill = json.load(open("/usr/share/nas/sbom.cdx.json"))
print(json.dumps([named, debian, bill]))
"""
    python, debian, bill = json.loads(image.python(code))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    root = bill["metadata"]["component"]
    assert python.pop("nas-pipelines") == root["version"]
    found = {one["name"]: one["version"] for one in bill["components"]}
    assert found == debian | python
    urls = [one["purl"] for one in bill["components"]]
    assert len(urls) == len(set(urls))
    assert {url.partition("/")[0] for url in urls} == {"pkg:pypi", "pkg:deb"}
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.M))
    assert found["torch"] == pins["torch"]


def test_a_change_of_the_code_is_a_small_layer(image: Image, device: str) -> None:
    form = "{{.Size}}\t{{.CreatedBy}}"
    lines = image.ask("history", "--no-trunc", "--format", form, image.name).splitlines()
    copies = [size for size, by in (line.split("\t", 1) for line in lines) if "COPY" in by]
    print(f"{device}: {image.inspect()['Size'] / 1e9:.2f} GB; layers of copied files: {copies}")
    assert len(copies) > 2
    number, unit = re.fullmatch(r"([\d.]+) ?(\w+)", copies[0]).groups()  # type: ignore[union-attr]
    assert unit == "MB", "the project comes last"
    assert float(number) < 20
    assert image.inspect()["Size"] < MOST_GB[device] * 1e9
