# One image for every pipeline step, and for the MLflow server.
#
#   docker build -t REGISTRY/nas-python:TAG .                               CUDA, for GPU nodes
#   docker build -t REGISTRY/nas-python:TAG-cpu --build-arg DEVICE=cpu .    CPU only, a third of the size
#
# Add --build-arg GIT_REVISION=$(git rev-parse HEAD), and every run and model names its code.
#
# The final stage holds no compiler and no pip cache, runs as user 10001, and works with a read-only
# root file system when /tmp and /home/nas are writable volumes.
ARG PYTHON_IMAGE=python:3.11.15-slim-trixie@sha256:db3ff2e1800a8581e2c48a27c3995339d47bdf046da21c7627accd3d51053a93

FROM ${PYTHON_IMAGE} AS build
ARG DEVICE=cuda
# Where the CPU variant finds torch; PyPI has none without CUDA. Name a mirror where this is away.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/nas
ENV PATH=/opt/nas/bin:$PATH
# Dependencies first: they change less often than the code, so the layer is reused. What is wanted
# stands in pyproject.toml, in which version in the lock file; tools of developers are left out.
COPY pyproject.toml requirements.lock ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); q = p['project']; \
      print(*p['build-system']['requires'], *q['dependencies'], \
            *q['optional-dependencies']['pipeline'], sep='\n')" > wanted.txt \
    && if [ "$DEVICE" = cpu ]; then \
      grep -E '^torch(vision)?==' requirements.lock > torch.txt \
      && pip install --no-deps --index-url "$TORCH_INDEX" --requirement torch.txt; \
    fi \
    && pip install --requirement wanted.txt --constraint requirements.lock
COPY README.md ./
COPY nascore nascore
COPY components components
COPY pipelines pipelines
RUN pip install --no-deps --no-build-isolation --no-index .

FROM ${PYTHON_IMAGE} AS final
RUN useradd --uid 10001 --user-group --create-home nas
COPY --from=build /opt/nas /opt/nas
ENV PATH=/opt/nas/bin:$PATH \
    HOME=/home/nas \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor \
    TRITON_CACHE_DIR=/tmp/triton
WORKDIR /home/nas
USER 10001:10001
# Last, since it changes with every build: what tracked runs say of their code.
ARG GIT_REVISION=""
ENV NAS_GIT_REVISION=$GIT_REVISION
# `docker run IMAGE` says whether the image is sound; KFP gives its own command.
CMD ["nas", "doctor"]
