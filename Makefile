# deepseek_ocr: the DeepSeek-OCR model inside PostgreSQL
#
#   make            build the extension; needs the packages in tools/packages.txt
#   make install    install it, with the default model
#   make uninstall  remove both
#   make clean      remove what was built
#
# From nothing but a Debian 12 system with git and make:
#
#   make demo       install packages, build, install, and read sample pages in a
#                   server that lives as long as the demo
#   make check      the same, then everything that is tested
#
# PG_CONFIG=/path/to/pg_config chooses the server.

PG_CONFIG ?= pg_config
export PG_CONFIG

all install uninstall clean:
	@$(MAKE) --no-print-directory -f extension.mk $@

demo:
	@sh demo/demo.sh

check:
	@sh test/check.sh

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

.PHONY: all install uninstall clean demo check format
