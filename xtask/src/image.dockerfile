# An official image, and libfaketime, for tests in which a server's clock is wrong. Those of
# PostgreSQL and MariaDB are Debian's and Ubuntu's children, MySQL's is Oracle Linux's.
ARG OFFICIAL
FROM $OFFICIAL
USER root
RUN if command -v apt-get; then \
        apt-get update && apt-get install --yes --no-install-recommends libfaketime && \
        rm -rf /var/lib/apt/lists/*; \
    else \
        microdnf install --assumeyes oracle-epel-release-el9 && \
        microdnf install --assumeyes libfaketime; \
    fi
