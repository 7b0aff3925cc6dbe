# One image for every pipeline step.
#
#   docker build -t REGISTRY/nas-python:TAG .                               CUDA, for GPU nodes
#   docker build -t REGISTRY/nas-python:TAG-cpu --build-arg DEVICE=cpu .    CPU only, a third of the size
#
# The final stage holds no compiler and no pip cache, runs as user 10001, and works with a read-only
# root file system when /tmp and /home/nas are writable volumes.
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
ARG DEVICE=cuda
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/nas
ENV PATH=/opt/nas/bin:$PATH
# Dependencies first: they change less often than the code, so the layer is reused.
COPY requirements.lock ./
RUN if [ "$DEVICE" = cpu ]; then \
      grep -vE '^(nvidia|cuda|triton)' requirements.lock > wanted.txt \
      && pip install --index-url https://download.pytorch.org/whl/cpu \
           "$(grep -E '^torch==' requirements.lock)" "$(grep -E '^torchvision==' requirements.lock)" \
      && pip install --requirement wanted.txt; \
    else \
      pip install --requirement requirements.lock; \
    fi
COPY pyproject.toml README.md ./
COPY nascore nascore
COPY components components
COPY pipelines pipelines
RUN pip install --no-deps --no-build-isolation .

FROM python:${PYTHON_VERSION}-slim AS final
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
# `docker run IMAGE` says whether the image is sound; KFP gives its own command.
CMD ["nas", "doctor"]
