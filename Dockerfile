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

FROM scratch
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
