/*
 * model_folder.h - where models lie in the file system.
 *
 * A model is a folder. Those that the database's users know by name lie in the
 * extension's model directory, <share>/extension/deepseek_ocr/models; any other
 * is named by its absolute path.
 */
#ifndef PG_MODEL_FOLDER_H
#define PG_MODEL_FOLDER_H

/* Is this what deepseek_ocr.model may hold? Says nothing about the folder's existence. */
bool model_name_is_valid(const char *name);

/* The extension's model directory; palloc'ed. */
char *model_directory(void);

/* The folder that a valid name means; palloc'ed. */
char *model_path(const char *name);
bool model_is_folder(const char *name);

/* May the current user see paths of the server's file system? As for data_directory. */
bool model_paths_are_visible(void);

/*
 * What to call a model before the current user: its name, or of an absolute
 * path the last part if the rest is not for this user to see.
 */
const char *model_shown_name(const char *name);

/*
 * A message of the engine about this model, fit for the current user: without
 * the folder's path if that is not for this user to see.
 */
const char *model_message(const char *name, const char *message);

/*
 * A fingerprint of the folder's files: their names, sizes and times. It differs
 * once any of them has been replaced. 0 if the folder cannot be read.
 */
uint64 model_folder_stamp(const char *path);

/* Read the weights through, so that the system has them in its page cache. */
void model_folder_warm(const char *path);

#endif
