"""Write the study's complete configuration as JSON."""

from snakemake.script import snakemake

from spineseg.writing import write_json

write_json(snakemake.output.config, snakemake.params.study)
