"""Write the study's complete configuration as JSON."""

from spineseg.writing import write_json

write_json(snakemake.output.config, snakemake.params.study)  # noqa: F821  Snakemake puts its object here
