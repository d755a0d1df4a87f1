# The sidecar's image: Python, the libraries that it loads, the locked dependencies, the product; no shell, no package
# manager, no pip.  Built by `make build`; docs/image.md says what is in it and how to check that.
#
# A release pins the base by its digest: PYTHON_DIGEST=@sha256:...
ARG PYTHON_IMAGE=docker.io/library/python
ARG PYTHON_TAG=3.13-slim-bookworm
ARG PYTHON_DIGEST=

FROM ${PYTHON_IMAGE}:${PYTHON_TAG}${PYTHON_DIGEST} AS tools
# By this what a build leaves in an engine's store can be found and removed; the image itself has it not.
LABEL forge-manager.build=stage
# The same hashes in every build: byte code holds sets in their order.  All files get the commit's time (STAMP).
ARG SOURCE_DATE_EPOCH=0
ENV PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    STAMP="find /opt /product /image -depth -exec touch --no-dereference --date @${SOURCE_DATE_EPOCH} {} +"
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/forge-manager \
    && rm /opt/forge-manager/bin/[Aa]ctivate*

# Of the Kubernetes client a class for each object of the API is left out (128 MB): kube/lean.py never loads them; and of
# all packages their tests.
#
# pip.conf and ca.pem are secrets of the build: where an index of one's own is used, nothing of it stays in the image.
FROM tools AS dependencies
COPY deploy/image/requirements.lock /build/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem,target=/run/ca.pem \
    /build/bin/pip --python /opt/forge-manager/bin/python3 install --quiet --no-compile --no-deps \
    --require-hashes --only-binary :all: --requirement /build/requirements.lock \
    && /build/bin/pip --python /opt/forge-manager/bin/python3 check \
    && cd /opt/forge-manager/lib/python3*/site-packages/kubernetes \
    && rm -r client/api client/models aio/client/api aio/client/models \
    && find /opt/forge-manager/lib -type d -name tests -prune -exec rm -r {} + \
    && find /opt/forge-manager/lib -type f ! -name '*.so*' -exec chmod 644 {} + \
    && cd / && /opt/forge-manager/bin/python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash /opt/forge-manager/lib \
    && mkdir -p /product /image && $STAMP

FROM tools AS product
COPY deploy/image/build.lock /build/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem,target=/run/ca.pem \
    /build/bin/pip install --quiet --require-hashes --only-binary :all: --requirement /build/build.lock
COPY . /source
RUN /build/bin/pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir /wheels /source \
    && /build/bin/pip --python /opt/forge-manager/bin/python3 install --quiet --no-compile --no-deps --no-index \
    --find-links /wheels --prefix /product/opt/forge-manager cardano-forge-manager \
    && /opt/forge-manager/bin/python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash -s /product -p / /product \
    && mkdir -p /image && $STAMP

FROM dependencies AS runtime
COPY deploy/image/assemble.py /build/
RUN python3 /build/assemble.py --for /opt/forge-manager --into /image \
    && mkdir -p /product/opt && mv /opt/forge-manager /product/opt/ \
    && $STAMP

# From a folder to / only: a folder that is made on the way would have the time of the build.
FROM scratch
LABEL org.opencontainers.image.title="cardano-forge-manager" \
      org.opencontainers.image.description="Sidecar that keeps exactly one cardano-node of a stake pool forging" \
      org.opencontainers.image.licenses="MIT"
COPY --from=runtime /image/ /
COPY --from=runtime /product/ /
COPY --from=product /product/ /
ENV PATH=/opt/forge-manager/bin LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1
USER 10001:10001
WORKDIR /
EXPOSE 8000
STOPSIGNAL SIGTERM
# Alive: every worker of this container speaks.  Whether its node forges is no question of health.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["forgectl", "alive"]
ENTRYPOINT ["forge-manager"]
ARG VERSION=unknown
ARG REVISION=unknown
ARG BASE_NAME=unknown
ARG BASE_DIGEST=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_NAME}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"
