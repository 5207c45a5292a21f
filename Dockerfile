# raysight on Ray's own images: `docker build --target cpu .` and `--target gpu`. No registry carries the results yet:
# docs/operations.md says how to build, name and push them. The steps are in scripts/image, which runs without Docker too.

# What both install.
FROM rayproject/ray:2.60.0-py311-cpu AS wheel
COPY --chown=1000:100 . /tmp/raysight
WORKDIR /tmp/raysight
RUN scripts/image wheel /tmp/wheels

FROM rayproject/ray:2.60.0-py311-cpu AS cpu-installed
COPY scripts/image scripts/runtime-requirements /opt/raysight/scripts/
COPY requirements.lock pyproject.toml /opt/raysight/
USER 0
RUN /opt/raysight/scripts/image system
# With glibc's malloc memory grows for hours, and with viewers where answers are results of Ray: docs/reliability.md.
ENV LD_PRELOAD=libjemalloc.so.2 \
    MALLOC_CONF=narenas:2,tcache:false,background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0 \
    RAY_SERVE_PROXY_USE_GRPC=1 RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH=2147483647
USER 1000:100
RUN --mount=from=wheel,source=/tmp/wheels,target=/tmp/wheels \
    /opt/raysight/scripts/image python /tmp/wheels && /opt/raysight/scripts/image check

FROM cpu-installed AS cpu-sbom
RUN /opt/raysight/scripts/image sbom /tmp/sbom.cdx.json

FROM cpu-installed AS cpu
COPY scripts/provide-engine /usr/local/bin/
COPY LICENSE NOTICE /usr/share/doc/raysight/
COPY --from=cpu-sbom /tmp/sbom.cdx.json /usr/share/doc/raysight/
WORKDIR /tmp
USER 1000:100
# The GPL: PyAV's wheels carry FFmpeg with libx264 and libx265. See NOTICE, which is in the image.
LABEL org.opencontainers.image.title="raysight" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0 AND GPL-2.0-or-later" \
      raysight.notice="/usr/share/doc/raysight/NOTICE" \
      raysight.sbom="/usr/share/doc/raysight/sbom.cdx.json"
CMD ["raysight", "--help"]

# The CUDA toolkit is in Ray's image, a compiler is not needed in the result.
FROM rayproject/ray:2.60.0-py311-cu128 AS gpu-wheels
USER 0
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
USER 1000:100
COPY scripts/image scripts/runtime-requirements /tmp/raysight/scripts/
COPY requirements.lock pyproject.toml /tmp/raysight/
RUN CUDA_ROOT=/usr/local/cuda /tmp/raysight/scripts/image gpu-wheels /tmp/wheels

FROM rayproject/ray:2.60.0-py311-cu128 AS gpu-installed
COPY scripts/image scripts/runtime-requirements /opt/raysight/scripts/
COPY requirements.lock pyproject.toml /opt/raysight/
USER 0
RUN /opt/raysight/scripts/image system
ENV LD_PRELOAD=libjemalloc.so.2 \
    MALLOC_CONF=narenas:2,tcache:false,background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0 \
    RAY_SERVE_PROXY_USE_GRPC=1 RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH=2147483647
USER 1000:100
RUN --mount=from=wheel,source=/tmp/wheels,target=/tmp/wheels \
    --mount=from=gpu-wheels,source=/tmp/wheels,target=/tmp/gpu-wheels \
    /opt/raysight/scripts/image python /tmp/wheels && \
    /opt/raysight/scripts/image gpu /tmp/gpu-wheels && /opt/raysight/scripts/image check

FROM gpu-installed AS gpu-sbom
RUN /opt/raysight/scripts/image sbom /tmp/sbom.cdx.json

FROM gpu-installed AS gpu
COPY scripts/provide-engine /usr/local/bin/
COPY LICENSE NOTICE /usr/share/doc/raysight/
COPY --from=gpu-sbom /tmp/sbom.cdx.json /usr/share/doc/raysight/
WORKDIR /tmp
USER 1000:100
# TensorRT and CUDA are under NVIDIA's own licences.
LABEL org.opencontainers.image.title="raysight" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0 AND GPL-2.0-or-later AND LicenseRef-NVIDIA" \
      raysight.notice="/usr/share/doc/raysight/NOTICE" \
      raysight.sbom="/usr/share/doc/raysight/sbom.cdx.json"
CMD ["raysight", "--help"]
