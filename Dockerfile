# vllama beside the vLLM that it runs.
#
#   docker build -t vllama .        (for several versions of vLLM: make images VLLM_TAGS="v0.32.0 latest")
#   docker run --gpus all --shm-size 16g -p 33258:33258 --stop-timeout 180 \
#     -v ~/.cache/huggingface:/root/.cache/huggingface -v ./vllama_config:/root/.vllama vllama
#
# models.yaml and keys.yaml live in /root/.vllama, models in /root/.cache/huggingface. Neither is a VOLUME: an anonymous
# volume below a directory that somebody mounts would hide what is in it.
# Not as root: --user vllama, or --user $(id -u):0 -e HOME=/home/vllama, and mounts below /home/vllama in place of /root.
# The end of the container ends the engines, after their requests: that takes up to three minutes (--stop-timeout).
ARG VLLM_IMAGE=vllm/vllm-openai
ARG VLLM_TAG=v0.32.0

FROM ${VLLM_IMAGE}:${VLLM_TAG} AS wheel
WORKDIR /src
COPY requirements-build.lock ./
RUN python3 -m venv --without-pip /build \
 && python3 -m pip --python /build/bin/python install --no-cache-dir --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY vllama ./vllama
RUN /build/bin/python -m build --wheel --no-isolation --outdir /wheels

FROM ${VLLM_IMAGE}:${VLLM_TAG}
# hadolint ignore=DL3008  # Ubuntu keeps one version of a package, and drops it for the next
RUN apt-get update \
 && apt-get install -y --no-install-recommends tini \
 && rm -rf /var/lib/apt/lists/*
# A virtual environment of its own: what vllama needs must not change what vLLM was built with.
RUN --mount=type=bind,source=requirements.lock,target=/mnt/requirements.lock \
    --mount=type=bind,from=wheel,source=/wheels,target=/mnt/wheels \
    python3 -m venv --without-pip /opt/vllama \
 && python3 -m pip --python /opt/vllama/bin/python install --no-cache-dir --require-hashes -r /mnt/requirements.lock \
 && python3 -m pip --python /opt/vllama/bin/python install --no-cache-dir --no-index --no-deps /mnt/wheels/*.whl \
 && ln -s /opt/vllama/bin/vllama /usr/local/bin/vllama
# Group 0 may write where the user may, so that any user id will do, as in OpenShift.
RUN useradd --uid 10001 --gid 0 --create-home --shell /usr/sbin/nologin vllama \
 && mkdir -p /home/vllama/.vllama /home/vllama/.cache/huggingface \
 && chown -R vllama:0 /home/vllama \
 && chmod -R g=u /home/vllama
COPY --chmod=755 manifests/docker/health.py /usr/local/bin/vllama-health
# Python asks for a name of the user, and one that is only a number has none.
ENV USER=vllama PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.title="vllama" \
      org.opencontainers.image.description="Give the GPUs you own the manners of Ollama and the speed of vLLM" \
      org.opencontainers.image.licenses="MIT"
WORKDIR /
EXPOSE 33258
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["vllama-health"]
STOPSIGNAL SIGTERM
# tini is process 1: it passes signals on and reaps orphans that vllama's own reaping leaves, at its end.
ENTRYPOINT ["tini", "--", "vllama"]
CMD ["serve"]
