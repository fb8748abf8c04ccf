# vllama beside the vLLM that it runs. Build: docker build -t vllama .
# Run: docker run --gpus all -p 33258:33258 -v ~/.cache/huggingface:/root/.cache/huggingface -v ./config:/root/.vllama vllama
# With --tls-cert give it a health check of your own (docker run --health-cmd): the one below speaks plain HTTP.
# The end of the container takes the engines with it: give it time for that (docker stop -t 180).
ARG VLLM_TAG=latest
FROM vllm/vllm-openai:${VLLM_TAG}
COPY pyproject.toml README.md LICENSE /src/
COPY vllama /src/vllama
RUN pip install --no-cache-dir /src && rm -r /src
EXPOSE 33258
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s \
  CMD python3 -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:33258/health', timeout=5)"
STOPSIGNAL SIGTERM
ENTRYPOINT ["vllama"]
CMD ["serve"]
