ARG GO_IMAGE=golang:1.26.9-bookworm

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=unknown
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" -o /out/ixmage . \
 && mkdir -m 0700 /out/data

# The worker that transforms pictures, its libvips and the parts of glibc that these two
# need, at the places where they are looked for. Not built for the default image.
FROM ${GO_IMAGE} AS worker-build
RUN apt-get update && apt-get install -y --no-install-recommends npm && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Makefile ./
COPY proxy/transform/worker proxy/transform/worker
RUN make worker \
 && mkdir -p /out/lib && cp bin/ixmage-worker bin/ixmage-worker.licenses.md /out/ && cp bin/libvips-cpp.so.* /out/lib/ \
 && ldd bin/ixmage-worker bin/libvips-cpp.so.* | grep -o '/lib[0-9]*/[^ ]*' | sort -u | xargs cp -L --parents -t /out

FROM scratch AS static
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/ixmage /ixmage
# The folder belongs to the user below, so a new volume does too.
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
ENV IXMAGE_DATA=/data
VOLUME /data
# The admin listener stays on the container's loopback unless
# IXMAGE_ADMIN_LISTEN says otherwise.
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/ixmage", "healthcheck"]
ENTRYPOINT ["/ixmage"]
CMD ["serve"]

# docker build --target worker: with transforms, 25 MB larger. The worker is under the
# LGPL and the licenses in /ixmage-worker.licenses.md; ixmage runs it as a program of its own.
FROM static AS worker
COPY --from=worker-build /out /
ENV IXMAGE_TRANSFORM_WORKER=/ixmage-worker

# The default: one static program.
FROM static
