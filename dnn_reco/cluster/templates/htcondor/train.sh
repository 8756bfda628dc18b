#!/bin/bash
# Written by `dnn-reco submit train`.
exec >>{{ (job.folder / log) | string | sh }} 2>&1
cd {{ job.directory | string | sh }} || exit 1
export PYTHONUNBUFFERED=1
{% for line in job.setup %}
{{ line }}
{% endfor %}

# The training takes the place of this script, so that the signal of an eviction reaches it.
{% if job.resources.seconds is none %}
exec {{ command }}
{% else %}
# "timeout" passes it on, and sends it when the time is up.
exec timeout --foreground --preserve-status --signal=TERM {{ job.resources.seconds }} \
    {{ command }}
{% endif %}
