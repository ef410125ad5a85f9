# An official image, and what tests need beside the server (Debian's packages). The images of
# PostgreSQL and MariaDB are Debian's and Ubuntu's children, MySQL's is Oracle Linux's.
ARG OFFICIAL
FROM $OFFICIAL
ARG TOOLS
USER root
RUN if command -v apt-get; then \
        apt-get update && apt-get install --yes --no-install-recommends $TOOLS && \
        rm -rf /var/lib/apt/lists/*; \
    else \
        microdnf install --assumeyes oracle-epel-release-el9 && \
        microdnf install --assumeyes $TOOLS; \
    fi
