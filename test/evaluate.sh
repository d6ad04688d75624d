#!/bin/sh
# The counting of errors: texts whose distances are known by hand.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cc -std=gnu11 -O2 -Wall -Wextra -Werror -o "$folder/error_rates" model/evaluate/error_rates.c

# page READER BUCKET TRUTH READ SECONDS FINISH TOKENS
page() {
    number=$((${number:-0} + 1))
    printf "$3" >"$folder/$number.truth"
    printf "$4" >"$folder/$number.read"
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$folder/$number.truth" "$folder/$number.read" "$5" "$6" "$7" >>"$folder/list"
}
page one a 'kitten on  a\n mat\n' ' sitting on a mat' 1 stop 150 # 3 of 15 characters, 1 of 4 words
page one a 'caf\303\251 1' 'cafe 1\n\n' 2 loop 150                # 1 of 6, 1 of 2
page one b '' 'ab' 1 stop 5                                       # invented
page one c '' '\n' 1 stop 0                                       # nothing, and right
page two a '\342\202\254 5' '' 1 error 0                          # 3 of 3, 2 of 2
page two d 'x' 'x' 1 stop 5000

"$folder/error_rates" <"$folder/list" >"$folder/report"
diff -u - "$folder/report" <<'EXPECTED'
bucket                       reader             pages characters     CER %     WER %    s/page loops errors
a                            one                    2         21     19.05     33.33      1.50     1      0
a                            two                    1          3    100.00    100.00      1.00     0      1
b                            one                    1          0  invented  invented      1.00     0      0
c                            one                    1          0         0         0      1.00     0      0
d                            two                    1          1      0.00      0.00      1.00     0      0

tokens       reader             pages precision %
0-100        one                    1         0.0
100-200      one                    2        82.3
1900-        two                    1       100.0
EXPECTED
