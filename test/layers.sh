#!/bin/sh
# Is the source cut as it is meant to be? Dependencies point down, the engine
# knows nothing of PostgreSQL, and it neither prints nor leaves. Run after make.
set -eu
cd "$(dirname "$0")/.."
failures=0

fail() {
    echo "$1" >&2
    failures=$((failures + 1))
}

# may_include FOLDER PATTERN: project headers that the files of src/FOLDER may include.
may_include() {
    for file in $(find "src/$1" -name '*.[ch]'); do
        for header in $(sed -n 's/^#include "\([^"]*\)".*/\1/p' "$file"); do
            [ -e "src/$header" ] || [ -e "$(dirname "$file")/$header" ] || continue
            echo "$header" | grep -Eq "^($2)" || fail "$file must not include $header"
        done
    done
}

may_include base 'base/'
may_include kernels 'base/|kernels/'
may_include model 'base/|kernels/|model/'
may_include vision 'base/|kernels/|model/|vision/'
may_include decoder 'base/|kernels/|model/|decoder/'
may_include pg 'engine\.h|pg/'

for file in src/*.[ch] $(find src/base src/kernels src/model src/vision src/decoder -name '*.[ch]'); do
    if grep -nE '#include "(postgres|fmgr|pg/|utils/|storage/)' "$file"; then
        fail "$file includes headers of PostgreSQL"
    fi
done

# Calls that leave the engine, or speak past its caller.
forbidden='exit|_exit|_Exit|abort|__assert_fail|raise|kill|err|errx|warn'
forbidden="$forbidden|printf|vprintf|puts|putchar|perror|stdout|stderr"
forbidden="$forbidden|__printf_chk|__vprintf_chk|syslog"
forbidden="$forbidden|elog.*|errstart.*|errfinish|errmsg.*|ereport|palloc.*|pfree|repalloc.*|MemoryContext.*|ProcessInterrupts"
jumps='longjmp|siglongjmp|_longjmp|__longjmp_chk|setjmp|_setjmp|__sigsetjmp|sigsetjmp'

for object in $(find build/extension -name '*.o' ! -path '*/pg/*'); do
    calls=$(nm -u "$object" | awk '{print $NF}')
    bad=$(echo "$calls" | grep -Ex "$forbidden" || true)
    [ -z "$bad" ] || fail "$object uses $(echo $bad)"
    case $object in
    */jpeg.o | */jpeg_write.o | */png.o) ;; # their libraries report errors by jumping, and no further than these files
    *)
        bad=$(echo "$calls" | grep -Ex "$jumps" || true)
        [ -z "$bad" ] || fail "$object jumps: $(echo $bad)"
        ;;
    esac
done

# What the library shows is what its SQL scripts use.
functions=$(sed -nE 's/^CREATE (FUNCTION|PROCEDURE) ([a-z_0-9]+).*/\2/p' sql/deepseek_ocr--*.sql | sort -u)
wanted=$( (echo Pg_magic_func; echo _PG_init; for f in $functions; do echo "$f"; echo "pg_finfo_$f"; done) | sort)
shown=$(nm -D --defined-only deepseek_ocr.so | awk '{print $NF}' | sed 's/@@*.*//' | sort)
[ "$wanted" = "$shown" ] || fail "deepseek_ocr.so shows other symbols than its functions:
$shown"

# A library that starts threads when it is loaded, or flags that change the server's arithmetic.
if ldd deepseek_ocr.so | grep -E 'blas|libgomp'; then
    fail "deepseek_ocr.so is linked with a library that may start threads of its own"
fi
if objdump -d deepseek_ocr.so | grep -q '<set_fast_math>'; then
    fail "deepseek_ocr.so was linked with -ffast-math"
fi

[ "$failures" -eq 0 ]
