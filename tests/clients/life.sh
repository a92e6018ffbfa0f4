#!/usr/bin/env bash
# The whole life of files and batches through plain curl, as the guides show it: `life.sh URL KEY dated|v1 LINES`.
set -euo pipefail
url=$1 key=$2 dialect=$3 lines=$4
if [ "$dialect" = dated ]; then base=$url/openai version='?api-version=2025-04-01-preview'; else base=$url/openai/v1 version=''; fi
call() { curl -sS --fail-with-body --max-time 60 -H "api-key: $key" "$@"; }
field() { # the first string of this name
    grep -o "\"$1\":\"[^\"]*\"" | head -n 1 | cut -d '"' -f 4
}

file=$(call "$base/files$version" -F purpose=batch -F "file=@$lines;type=application/json" \
    -F expires_after.anchor=created_at -F expires_after.seconds=1209600 | field id)
until [ "$(call "$base/files/$file$version" | field status)" = processed ]; do :; done
batch=$(call "$base/batches$version" -H 'content-type: application/json' -d \
    "{\"input_file_id\":\"$file\",\"endpoint\":\"/chat/completions\",\"completion_window\":\"24h\"}" | field id)
until [ "$(call "$base/batches/$batch$version" | field status)" = completed ]; do :; done
output=$(call "$base/batches/$batch$version" | field output_file_id)
[ "$(call "$base/files/$output/content$version" | wc -l)" -eq 20 ]
if [ "$dialect" = dated ]; then
    call -G "$base/batches" --data-urlencode 'api-version=2025-04-01-preview' \
        --data-urlencode '$filter=created_at gt 1000 and status eq '"'Completed'" \
        --data-urlencode '$orderby=created_at asc' | grep -q "$batch"
fi
call "$base/batches$version" | grep -q "$batch"
call -X DELETE "$base/files/$file$version" | grep -q '"deleted":true'
[ "$(curl -s -o /dev/null -w '%{http_code}' -H "api-key: $key" "$base/files/$file$version")" = 404 ]
echo lived
