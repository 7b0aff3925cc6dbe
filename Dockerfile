# One image for every pipeline step, and for the MLflow server. See docs/image.md.
#
#   make image IMAGE=REGISTRY/nas-python:TAG                   CUDA, for GPU nodes
#   make image IMAGE=REGISTRY/nas-python:TAG-cpu DEVICE=cpu    CPU only
#
# The final stage has no compiler and no pip, runs as any user, and writes only below /tmp.
ARG PYTHON_IMAGE=python:3.11.15-slim-trixie@sha256:db3ff2e1800a8581e2c48a27c3995339d47bdf046da21c7627accd3d51053a93

# Build tools; not in later stages.
FROM ${PYTHON_IMAGE} AS tools
ARG DEVICE=cuda
WORKDIR /build
COPY images/tools.txt images/tools-cpu.txt ./
ENV PATH=/opt/tools/bin:$PATH PIP_NO_CACHE_DIR=1
# Secrets, here and below: settings of pip (a private index), certificate authority of that server.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt,target=/etc/ssl/certs/ca-certificates.crt \
    python -m venv /opt/tools && pip install --requirement tools.txt \
    && if [ "$DEVICE" = cpu ]; then pip install --requirement tools-cpu.txt; fi

# The requirements are in pyproject.toml; changes of its other lines do not affect the layers below.
FROM ${PYTHON_IMAGE} AS wanted
WORKDIR /build
COPY pyproject.toml images/choose.py ./
RUN python choose.py wanted pyproject.toml > wanted.txt

# Dependencies first: they change less often than the code, so this layer of gigabytes is reused.
FROM ${PYTHON_IMAGE} AS packages
ARG DEVICE=cuda
# An index with CPU builds of torch, such as https://download.pytorch.org/whl/cpu, for a CPU variant
# that is smaller by 0.6 GB; without one, the builds of the package index are used.
ARG TORCH_INDEX=""
WORKDIR /usr/share/nas
COPY --from=wanted /build/wanted.txt ./
COPY requirements.lock images/choose.py images/stand_ins.py images/trim.py ./
RUN --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt,target=/etc/ssl/certs/ca-certificates.crt \
    export PIP_PYTHON=/opt/nas PIP_NO_CACHE_DIR=1 PATH="/opt/tools/bin:$PATH" \
    && python -m venv --without-pip /opt/nas \
    && if [ -n "$TORCH_INDEX" ]; then \
      grep -E '^torch(vision)?==' requirements.lock > torch.txt \
      && pip install --no-deps --index-url "$TORCH_INDEX" --requirement torch.txt; \
    fi \
    && pip install --dry-run --quiet --report report.json \
      --requirement wanted.txt --constraint requirements.lock \
    && python choose.py chosen report.json "$DEVICE" > chosen.txt \
    && pip install --no-deps --requirement chosen.txt \
    && if [ "$DEVICE" = cpu ]; then python stand_ins.py /opt/nas/lib/python3.*/site-packages; fi \
    && python trim.py /opt/nas/lib/python3.*/site-packages \
    && /opt/nas/bin/python -c "import torch, torchvision" \
    && rm ./*

# The bill of materials: Python packages by a tool, Debian's by dpkg.
FROM packages AS sbom
COPY --from=tools /opt/tools /opt/tools
ENV PATH=/opt/tools/bin:$PATH PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY images/sbom.txt images/sbom.py pyproject.toml ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt,target=/etc/ssl/certs/ca-certificates.crt \
    pip install --requirement sbom.txt
RUN cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
      --output-file packages.json /opt/nas \
    && mkdir /sbom && python sbom.py packages.json /sbom/sbom.cdx.json \
    && python -c "from pathlib import Path; from cyclonedx.schema import SchemaVersion; \
      from cyclonedx.validation.json import JsonStrictValidator as Validator; \
      text = Path('/sbom/sbom.cdx.json').read_text(); \
      exit(Validator(SchemaVersion.V1_6).validate_str(text))"

FROM packages AS code
COPY --from=tools /opt/tools /opt/tools
ENV PATH=/opt/tools/bin:$PATH PIP_PYTHON=/opt/nas PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY pyproject.toml README.md ./
COPY nascore nascore
COPY components components
COPY pipelines pipelines
RUN pip install --no-deps --no-build-isolation --no-index --prefix /opt/code .

FROM packages AS final
# Group 0 may write in the home folder: some clusters use a different user id for each namespace.
RUN useradd --uid 10001 --user-group --create-home nas \
    && chgrp 0 /home/nas && chmod g=rwx /home/nas
COPY --from=sbom /sbom /usr/share/nas
# The project in a separate layer: a node with the packages pulls only these few megabytes.
COPY --from=code /opt/code /opt/nas
# Writable folders for a read-only root and a user without name and home: all in /tmp.
ENV PATH=/opt/nas/bin:$PATH \
    HOME=/tmp \
    USER=nas \
    LOGNAME=nas \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor
WORKDIR /tmp
USER 10001:10001
ARG PYTHON_IMAGE
LABEL org.opencontainers.image.title="nas-pipelines" \
      org.opencontainers.image.description="Neural architecture search as Kubeflow pipeline components: from a search to a promoted model" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
# Last, since it changes with every build: the revision that tracked runs record.
ARG GIT_REVISION=""
ENV NAS_GIT_REVISION=$GIT_REVISION
LABEL org.opencontainers.image.revision=$GIT_REVISION
# `docker run IMAGE` checks the image; KFP sets its own command.
CMD ["nas", "doctor"]
