-- Secrets that all nodes of a hub share, each made by the first node that needs it.

CREATE TABLE shared_secrets (
    name  text  PRIMARY KEY,
    value bytea NOT NULL
);
