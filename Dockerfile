# syntax=docker/dockerfile:1

FROM rust:1.95-bookworm AS builder
WORKDIR /build
# The build has no database: the query macros read .sqlx/.
ENV SQLX_OFFLINE=true
COPY Cargo.toml Cargo.lock build.rs ./
COPY .sqlx .sqlx
COPY migrations migrations
COPY src src
# Cargo.toml names these files. The build does not compile them.
COPY benches benches
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --locked --profile dist --bin hookhub \
    && cp target/dist/hookhub /usr/local/bin/hookhub

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 hookhub \
    && useradd --no-create-home --uid 10001 --gid 10001 --home-dir /var/lib/hookhub --shell /usr/sbin/nologin hookhub \
    && install -d -o hookhub -g hookhub -m 0700 /var/lib/hookhub
COPY --from=builder /usr/local/bin/hookhub /usr/local/bin/hookhub

# This image contains no Postgres. DATABASE_URL names one.
ENV HOOKHUB_LISTEN=0.0.0.0:8080 \
    HOOKHUB_DATA_DIR=/var/lib/hookhub
USER 10001:10001
VOLUME /var/lib/hookhub
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["hookhub", "health"]
ENTRYPOINT ["hookhub"]
CMD ["serve"]
