# The server of a bundle: docs/deploy.md. No Spark, Java, Keras or TensorFlow, and nothing to build with.
#
#   docker build --tag mirabelle-serve .
#   docker run --rm --read-only --cap-drop ALL --publish 127.0.0.1:8080:8080 --volume ./OUT/bundle/ID:/bundle:ro mirabelle-serve
#
# Whoever wants the same bytes again pins the base by its digest: --build-arg BASE=python:3.11.14-slim-bookworm@sha256:...
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS packages
COPY requirements-serve.lock /
RUN python -m pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: \
        --target /packages --requirement /requirements-serve.lock
# As it stands: it is Python alone, and building a wheel of it would need what the lock has not.
COPY lib/mirabelle /packages/mirabelle
RUN python -m compileall -q /packages

FROM ${BASE}
# Whoever gets in finds no installer.
RUN python -m pip uninstall --quiet --yes --root-user-action=ignore pip setuptools wheel \
    && rm -rf /usr/local/lib/python3.11/ensurepip \
    && useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin mirabelle
COPY --from=packages /packages /packages
ENV PYTHONPATH=/packages PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    MIRABELLE_SERVE_HOST=0.0.0.0 MIRABELLE_SERVE_PORT=8080
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['MIRABELLE_SERVE_PORT'] + '/health/ready', timeout=2)"]
# A bundle, or a current.json, or an s3:// address of either; options of `mirabelle serve` may follow it.
ENTRYPOINT ["python", "-m", "mirabelle", "serve"]
CMD ["/bundle"]
