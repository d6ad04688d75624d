# Builds and installs the extension with PostgreSQL's own rules (PGXS). The
# Makefile beside it is the front; see there for the targets.

PG_CONFIG ?= pg_config

EXTENSION = deepseek_ocr
MODULE_big = deepseek_ocr
PGFILEDESC = "deepseek_ocr - DeepSeek-OCR inside the database"
DATA = $(wildcard sql/deepseek_ocr--*.sql)

ENGINE_DIR := src
include src/engine.mk

OUT := build/extension

# Another server than the last time: everything is built anew.
SERVER := $(OUT)/server
$(shell mkdir -p $(OUT); $(PG_CONFIG) --version --pkglibdir | cmp -s - $(SERVER) || $(PG_CONFIG) --version --pkglibdir >$(SERVER))
PG_OBJS := $(patsubst src/%.c,$(OUT)/%.o,$(wildcard src/pg/*.c))
ENGINE_OBJS := $(patsubst %.c,$(OUT)/%.o,$(ENGINE_SRCS))
OBJS = $(PG_OBJS) $(ENGINE_OBJS)

# Only what exports.map lists is seen by the server; a symbol of the engine can
# neither clash with another library's nor be replaced by it.
EXPORTS = src/pg/exports.map
SHLIB_LINK = $(ENGINE_LIBS) -Wl,--version-script=$(EXPORTS)

# PostgreSQL's flags forbid what C11 allows.
PG_CFLAGS = -Wno-declaration-after-statement -MMD -MP
PG_CPPFLAGS = -Isrc

EXTRA_CLEAN = build

# Inlining into query plans has nothing to gain here, and clang is not needed.
override with_llvm = no

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# PostgreSQL's flags let signed integers wrap around, which its own code relies on. The
# engine's does not: it is tested without, and with it gcc finds no vectors in the loops over
# lanes of kernels/rows.c, because a sum of two indices might wrap. libtiff's message handlers
# lack the attribute that PostgreSQL's flags ask for.
$(ENGINE_OBJS): override CFLAGS += $(ENGINE_CFLAGS) -fno-wrapv -Wno-missing-format-attribute
$(PG_OBJS): override CFLAGS += -std=gnu11 -Wshadow
$(OBJS): $(SERVER)
$(shlib): $(EXPORTS)

$(OUT)/%.o: src/%.c
	@$(MKDIR_P) $(@D)
	$(CC) $(CFLAGS) $(CPPFLAGS) -c -o $@ $<

-include $(OBJS:.o=.d)

# The default model, next to the extension's control file.
MODELS = $(DESTDIR)$(datadir)/extension/deepseek_ocr/models
MODEL_FILES = $(addprefix model/default/,config.json model.safetensors processor_config.json tokenizer.json)

install: install-model
uninstall: uninstall-model

.PHONY: install-model uninstall-model
# Pages may be read meanwhile: made beside the old folder and put in its place as a whole, lest the new weights be read with
# the old tokenizer.
install-model:
	(for file in $(MODEL_FILES); do cmp -s $$file '$(MODELS)/default'/$$(basename $$file) || exit 1; done) || { \
		rm -rf '$(MODELS)/default.new' '$(MODELS)/default.old' && \
		$(MKDIR_P) '$(MODELS)/default.new' && $(INSTALL_DATA) $(MODEL_FILES) '$(MODELS)/default.new' && \
		{ [ ! -e '$(MODELS)/default' ] || mv '$(MODELS)/default' '$(MODELS)/default.old'; } && \
		mv '$(MODELS)/default.new' '$(MODELS)/default' && rm -rf '$(MODELS)/default.old'; }

uninstall-model:
	rm -rf '$(MODELS)/default'
	-rmdir '$(MODELS)' '$(dir $(MODELS))' 2>/dev/null
