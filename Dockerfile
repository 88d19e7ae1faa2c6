# The image of the backend. Needs BuildKit: docker build --tag <image> .
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin backend && cp target/release/backend /backend

# glibc, CA certificates and nothing to run but the backend.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /backend /usr/local/bin/backend
USER 65532:65532
EXPOSE 8080 8443
ENTRYPOINT ["/usr/local/bin/backend"]
