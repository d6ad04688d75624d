# The engine's sources and what it links with, for the extension, the tests and
# the benchmark alike. Paths are relative to src/.

ENGINE_SRCS = $(patsubst $(ENGINE_DIR)/%,%,$(sort \
	$(ENGINE_DIR)/engine.c \
	$(wildcard $(addprefix $(ENGINE_DIR)/,base/*.c kernels/*.c model/*.c vision/*.c decoder/*.c))))

# OpenBLAS: the serial build, since the engine has threads of its own and a
# library that starts some at load time would start them in the postmaster.
ENGINE_PACKAGES = blas-openblas libjpeg libpng libpcre2-8 jansson

ENGINE_CFLAGS = -std=gnu11 -I$(ENGINE_DIR) -fvisibility=hidden -ffp-contract=off \
	-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
