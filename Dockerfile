# One image for every pipeline step, and for the MLflow server. See docs/image.md.
#
#   make image IMAGE=REGISTRY/nas-python:TAG                   CUDA, for GPU nodes
#   make image IMAGE=REGISTRY/nas-python:TAG-cpu DEVICE=cpu    CPU only
#
# The final stage holds no compiler and no pip, runs as any user, and writes below /tmp alone.
ARG PYTHON_IMAGE=python:3.11.15-slim-trixie@sha256:db3ff2e1800a8581e2c48a27c3995339d47bdf046da21c7627accd3d51053a93

FROM ${PYTHON_IMAGE} AS packages
ARG DEVICE=cuda
# Where the CPU variant finds torch; PyPI has none without CUDA. Name a mirror where this is away.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
# Two environments: one that installs, and one that is installed, which needs no pip.
RUN python -m venv /opt/tools && python -m venv --without-pip /opt/nas
ENV PATH=/opt/tools/bin:$PATH
# Dependencies first: they change less often than the code, so the layer is reused. What is wanted
# stands in pyproject.toml, in which version in the lock file; tools of developers are left out.
# Secrets: the settings of pip (an index of your own), and the authority of that server.
COPY pyproject.toml requirements.lock images/trim.py ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt,target=/etc/ssl/certs/ca-certificates.crt \
    python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); q = p['project']; \
      print(*p['build-system']['requires'], *q['dependencies'], \
            *q['optional-dependencies']['pipeline'], sep='\n')" > wanted.txt \
    && if [ "$DEVICE" = cpu ]; then \
      grep -E '^torch(vision)?==' requirements.lock > torch.txt \
      && pip --python /opt/nas install --no-deps --index-url "$TORCH_INDEX" --requirement torch.txt; \
    fi \
    && pip --python /opt/nas install --requirement wanted.txt --constraint requirements.lock \
    && python trim.py /opt/nas/lib/python3.*/site-packages

# The bill of materials: Python packages by a tool, Debian's by dpkg.
FROM packages AS sbom
COPY images/sbom.txt images/sbom.py ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt,target=/etc/ssl/certs/ca-certificates.crt \
    pip install --requirement sbom.txt
RUN cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
      --output-file packages.json /opt/nas \
    && mkdir /sbom && python sbom.py packages.json /sbom/sbom.cdx.json

FROM packages AS code
COPY README.md ./
COPY nascore nascore
COPY components components
COPY pipelines pipelines
RUN pip --python /opt/nas install --no-deps --no-build-isolation --no-index --prefix /opt/code .

FROM ${PYTHON_IMAGE} AS final
# Group 0 may write in the home folder: some clusters run each name space as a user of its own there.
RUN useradd --uid 10001 --user-group --create-home nas \
    && chgrp 0 /home/nas && chmod g=rwx /home/nas
COPY --from=packages /opt/nas /opt/nas
COPY --from=sbom /sbom /usr/share/nas
# The project in a layer of its own: a node that has the packages fetches these few megabytes.
COPY --from=code /opt/code /opt/nas
# Places to write, where the root is read-only and the user has neither name nor home: all in /tmp.
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
# Last, since it changes with every build: what tracked runs say of their code.
ARG GIT_REVISION=""
ENV NAS_GIT_REVISION=$GIT_REVISION
LABEL org.opencontainers.image.revision=$GIT_REVISION
# `docker run IMAGE` says whether the image is sound; KFP gives its own command.
CMD ["nas", "doctor"]
