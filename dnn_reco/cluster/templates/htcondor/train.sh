#!/bin/bash
# Written by `dnn-reco submit train`.
exec >>{{ (job.folder / log) | string | sh }} 2>&1
cd {{ job.directory | string | sh }} || exit 1
export PYTHONUNBUFFERED=1
{% for line in job.setup %}
{{ line }}
{% endfor %}

# The training replaces this script, so that it receives the signal of an eviction.
{% if job.resources.seconds is none %}
exec {{ command }}
{% else %}
# "timeout" forwards it, and sends it at the time limit.
exec timeout --foreground --preserve-status --signal=TERM {{ job.resources.seconds }} \
    {{ command }}
{% endif %}
