# The engine's sources, how they are compiled and what they link with, for the
# extension, the tests and the benchmark alike. Set ENGINE_DIR to this folder
# before including. ENGINE_SRCS is relative to it.

ENGINE_SRCS := $(patsubst $(ENGINE_DIR)/%,%,$(sort $(wildcard \
	$(addprefix $(ENGINE_DIR)/,*.c base/*.c kernels/*.c model/*.c vision/*.c decoder/*.c))))

ENGINE_PACKAGES = libjpeg libpng libtiff-4 libwebp zlib libpcre2-8 jansson
ENGINE_INCLUDES := $(shell pkg-config --cflags $(ENGINE_PACKAGES))
ENGINE_LIBS := $(shell pkg-config --libs $(ENGINE_PACKAGES)) -pthread -lm

ENGINE_CFLAGS = -std=gnu11 -D_GNU_SOURCE -I$(ENGINE_DIR) $(ENGINE_INCLUDES) -pthread -fvisibility=hidden \
	-ffp-contract=off -O3 -fno-math-errno -fno-trapping-math \
	-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
