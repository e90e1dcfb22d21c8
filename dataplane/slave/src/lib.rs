//! The slave role: answers ECHO, alone or as a farm of ids.
